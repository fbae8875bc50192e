//! Threads: who runs, who waits, and for what.
pub mod wait;
