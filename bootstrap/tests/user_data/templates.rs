//! Our own templates for the management server, filled in as it does.
