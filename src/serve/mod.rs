//! `grimace serve`: a trained run as an HTTP service.
//!
//! A request passes the checks of `guard`, its body is read within limits (`body`), images are decoded
//! and faces found on a bounded pool of threads (`images`), and one thread that owns the network
//! predicts the faces of all requests in batches (`batching`).

mod access_log;
mod api_error;
mod batch_queue;
mod batching;
mod body;
mod connection;
mod guard;
mod images;
mod memory;
mod metrics;
mod model_info;
mod options;
pub mod page;
mod pixels_json;
mod predict;
mod router;
mod server;
mod state;
mod token_source;
mod upload;

pub use options::{ServeOptions, parse_address};
pub use server::Server;
pub use token_source::{ServiceToken, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE};
