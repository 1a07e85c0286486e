//! All promises of Evenkeel in one test program; each module is one promise or one family of them.

mod support;

mod tidy;
