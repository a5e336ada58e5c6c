//! Replies that are held to a form while they are written.

/// Says which beginnings can still become a reply of some form.
pub trait Guide: Send + Sync {
    /// Whether the text can go on to become a whole reply. A last character that is not whole yet
    /// stands in it as U+FFFD.
    fn allows(&self, text: &str) -> bool;

    /// Whether the text is a whole reply, so that the turn may end.
    fn is_whole(&self, text: &str) -> bool;
}
