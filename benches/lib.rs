//! Empty; the benches are beside this file.
