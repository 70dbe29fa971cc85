//! A configuration file.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice_config::Config;

fuzz_target!(|text: &str| {
    if let Err(diagnostics) = Config::parse("sluice.toml", text) {
        assert!(!diagnostics.is_empty());
    }
});
