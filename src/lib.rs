//! Evenkeel as a library: a TCP load balancer inside your own program.
//!
//! [`Config`] says what to do (built in code or read from a file), [`Proxy`] makes sure that it can be done,
//! and [`Running`] serves until it is stopped. The `evenkeel` binary is a thin command line over these three.
//!
//! ```no_run
//! use evenkeel::{Config, Proxy};
//!
//! let config = Config::parse(r#"
//!     [upstream.app]
//!     backends = ["127.0.0.1:9001", "127.0.0.1:9002"]
//!     [tcp.public]
//!     listen = "127.0.0.1:8080"
//!     upstream = "app"
//! "#)?;
//! let running = Proxy::new(config)?.start()?;
//! println!("listening on {:?}", running.addresses("public"));
//! println!("{} connections so far", running.counts().accepted);
//! running.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("Evenkeel runs on Linux only: it rests on epoll, SO_REUSEPORT and accept4");

mod admin;
#[doc(hidden)]
pub mod cli;
pub mod config;
mod connection;
mod descriptors;
mod discover;
mod explain;
mod health;
mod http;
mod keeper;
mod limits;
mod link;
mod listen;
mod observe;
mod plan;
mod process;
mod proxied;
mod route;
mod socket;
mod tcp;
mod tls;
mod upstream;

use std::os::fd::OwnedFd;

pub use config::Config;
pub use config::problem::Problems;
pub use observe::counts::{BackendCounts, Counts};
pub use observe::ended::{Side, Why};
pub use process::{ReloadError, Reloaded, Report, Running, StartError};

/// A config that has been found sound, ready to start.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
}

impl Proxy {
    /// Checks the config as a whole; every problem comes at once.
    pub fn new(config: Config) -> Result<Proxy, Problems> {
        config.verify_or_problems()?;
        Ok(Proxy { config })
    }

    /// Binds every address and starts serving on threads of its own. When this returns, clients can connect.
    ///
    /// Raises the soft limit of open descriptors of this process to its hard limit. With `user` in `[process]`, this thread
    /// and all that it starts from then on become that user, and it is refused where the process has another thread already.
    /// `[admin]` and `sandbox` are for the `evenkeel` binary: whoever embeds a proxy has [`Running`] to speak to it, no socket is
    /// opened for others, and nothing is taken from the program around it.
    pub fn start(self) -> Result<Running, StartError> {
        process::start(&self.config)
    }
    /// What a process of its own gives up to serve this, unless its config wants it otherwise.
    pub(crate) fn sandbox(
        &self,
        around: &process::sandbox::Surroundings,
    ) -> Option<process::Sandbox> {
        process::Sandbox::find(&self.config, around)
    }

    /// The same in a process of its own, which locks itself in, on listening sockets that were passed to it, where the config
    /// has their addresses.
    pub(crate) fn start_on(
        self,
        passed: Vec<OwnedFd>,
        sandbox: Option<process::Sandbox>,
    ) -> Result<Running, StartError> {
        process::start_on(&self.config, passed, sandbox)
    }

    /// The same in the place of a process that serves already.
    pub(crate) fn take_over(
        self,
        before: &process::Predecessor,
        sandbox: Option<process::Sandbox>,
    ) -> Result<Running, StartError> {
        process::take_over(&self.config, before, sandbox)
    }
}
