//! Every backend passes every case here, by name: `cargo test -p runtimes conformance::docker::` and so on.

mod bench;
mod callbacks;
mod cases;
mod faults;
mod hostile;
mod http;
mod images;
mod inspect;
mod mounts;
mod plain_user;
mod rlimits;
mod room;
mod walls;

macro_rules! suite {
    ($($module:ident :: $case:ident;)*) => {
        suite!(@substrate docker Docker $($module :: $case;)*);
        suite!(@substrate bubblewrap Bubblewrap $($module :: $case;)*);
        suite!(@substrate bare Bare $($module :: $case;)*);
    };
    (@substrate $name:ident $substrate:ident $($module:ident :: $case:ident;)*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$module::$case(super::bench::Substrate::$substrate).await;
                }
            )*
        }
    };
}

suite! {
    cases::starts_and_runs;
    cases::tells_the_exit_code;
    cases::tells_a_failure_with_its_last_words;
    cases::tells_a_signal;
    cases::stops_with_term;
    cases::kills_after_the_grace;
    cases::a_start_is_idempotent;
    cases::ended_and_lower_generations_are_refused;
    cases::a_higher_generation_replaces_a_lower;
    cases::destroy_leaves_nothing;
    cases::a_failed_start_says_why;
    cases::lives_no_longer_than_it_may;
    mounts::a_read_only_workspace_is_read_only;
    mounts::a_writable_workspace_is_writable;
    mounts::the_sockets_folder_is_read_only;
    mounts::the_environment_is_whole_and_holds_no_secret;
    mounts::it_has_a_loopback_and_no_other_network;
    mounts::a_workspace_in_use_is_not_trashed;
    walls::it_has_its_mounts_and_nothing_else_of_the_host;
    walls::the_doors_of_the_kernel_are_shut;
    walls::it_writes_where_it_may_and_no_more_than_it_may;
    walls::what_a_process_may_have_is_the_profiles;
    walls::its_mounts_name_no_owner_and_no_other_unit;
    walls::one_cannot_take_what_all_have_of_their_user;
    walls::a_fork_bomb_is_held;
    walls::out_of_memory_is_told;
    walls::the_first_process_lives_and_sees_that_memory_ran_out;
    walls::a_home_that_outgrows_its_limit_ends_it;
    faults::a_restart_finds_it_again;
    faults::a_restart_in_the_middle_of_a_stop_sees_it_through;
    faults::an_end_between_two_runtimes_is_told;
    faults::a_start_that_was_cut_short_is_cleaned_up;
    faults::everything_dies_with_what_holds_it;
    callbacks::every_transition_is_told_in_order;
    callbacks::what_was_not_delivered_is_delivered_after_a_restart;
    hostile::nested_folders_end_nobody;
    hostile::closed_folders_are_open_to_the_next;
    hostile::a_process_is_nobody_elses_by_what_it_says;
    http::the_client_sees_what_happens;
    inspect::it_sees_one_workspace_read_only_and_nothing_else;
    inspect::it_ends_at_its_deadline_or_when_it_says_too_much;
    inspect::what_it_cannot_see_is_told;
    inspect::more_than_some_wait;
    inspect::nothing_is_left_when_the_runtime_ends;
}
