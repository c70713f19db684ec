//! What a run shows: the board's counts, the view of them, the metrics, the schema of the document.

mod board;
mod metrics;
mod openmetrics;
mod scenes;
mod schema;
mod view;
