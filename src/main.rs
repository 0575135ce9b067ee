//! Parse, run, print the error on one line, choose the exit code:
//! 0 fine; 1 written, but verification failed; 2 could not do it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    clip_onnx::interrupt::explain_signals();
    clip_onnx::guard::report_uncaught_panics();
    let outcome = cli::run();
    clip_onnx::interrupt::wait();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("clip-onnx: {}", cli::error(&error));
            ExitCode::from(2)
        }
    }
}
