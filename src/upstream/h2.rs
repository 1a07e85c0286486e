//! What was configured for HTTP/2 with the backends of one upstream; it is kept to where the connections are made.

/// Requests on one connection, and how many frames of a kind a backend may send within a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct H2 {
    /// Requests at the same time.
    pub(crate) streams_max: usize,
    pub(crate) resets: u32,
    pub(crate) pings: u32,
    pub(crate) settings: u32,
    /// DATA without data that does not end a stream.
    pub(crate) empty: u32,
    /// What is neither a head nor data.
    pub(crate) control: u32,
    /// Heads of answers, interim ones included.
    pub(crate) heads: u32,
    /// CONTINUATION frames of one head.
    pub(crate) continuations: u32,
}
