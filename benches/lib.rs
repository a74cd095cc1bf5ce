//! Nothing here: the benches are beside this file.
