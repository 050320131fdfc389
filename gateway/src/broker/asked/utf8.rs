//! Whether bytes that come in pieces are UTF-8.

/// The bytes of a character of which the rest is to come.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    held: Vec<u8>,
}

impl Utf8 {
    /// Takes the next piece, of any size; says whether there is still no byte that cannot be.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let (false, Some((&byte, more))) = (self.held.is_empty(), rest.split_first()) {
            self.held.push(byte);
            rest = more;
            match std::str::from_utf8(&self.held) {
                Ok(_) => self.held.clear(),
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        match std::str::from_utf8(rest) {
            Ok(_) => true,
            Err(error) => {
                self.held.extend_from_slice(&rest[error.valid_up_to()..]);
                error.error_len().is_none()
            }
        }
    }
}
