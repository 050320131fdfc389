#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::worker_port::check_facade(data));
