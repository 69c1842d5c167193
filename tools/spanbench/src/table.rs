//! Tables of figures.

use comfy_table::{CellAlignment, Table};

use crate::summary::Spread;

/// Figures to the right of the first column.
pub(crate) fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// `1234 (1200-1300)`, with decimals where the figure is small.
pub(crate) fn show(spread: &Spread, divisor: f64) -> String {
    let median = spread.median / divisor;
    let digits = if median < 10.0 {
        2
    } else if median < 100.0 {
        1
    } else {
        0
    };
    spread.text(divisor, digits)
}
