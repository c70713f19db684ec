//! What `cks-agent explain` tells of the scenarios of `bootstrap/tests/user_data`.

#[cfg(test)]
mod scenarios;
