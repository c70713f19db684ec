//! What a run shows: the board's counts, the view of them, the metrics, the schema of the document.

#[cfg(test)]
mod board;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod openmetrics;
#[cfg(test)]
mod scenes;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod view;
