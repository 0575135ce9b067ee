//! Parse, run, print the error on one line, choose the exit code:
//! 0 fine; 1 written, but verification failed; 2 could not do it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    clip_onnx::interrupt::explain_signals();
    // A panic of an engine, a tokenizer or an image decoder is caught and becomes an error: it is reported once, there.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !clip_onnx::guard::panics_are_caught() {
            hook(panic);
        }
    }));
    match cli::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("clip-onnx: {}", cli::error(&error));
            ExitCode::from(2)
        }
    }
}
