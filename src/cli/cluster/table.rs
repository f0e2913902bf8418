//! Columns of text that stand below one another. A column in which no row has anything is left out.

/// Between two columns.
const GAP: &str = "  ";
/// In a cell that has nothing.
const NOTHING: &str = "-";

/// On which side the cells of a column stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// A table in the making.
pub struct Table {
    columns: Vec<(String, Side)>,
    rows: Vec<Vec<Option<String>>>,
}

impl Table {
    pub fn new(columns: impl IntoIterator<Item = (String, Side)>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn add(&mut self, row: Vec<Option<String>>) {
        assert_eq!(row.len(), self.columns.len(), "a cell for each column");
        self.rows.push(row);
    }

    /// Lines with their ends, the names of the columns first.
    pub fn to_text(&self) -> String {
        let is_used = |column: &usize| self.rows.iter().any(|row| row[*column].is_some());
        let used: Vec<usize> = (0..self.columns.len()).filter(is_used).collect();
        let head: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or(NOTHING)).collect());
        let lines: Vec<Vec<&str>> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for line in &lines {
            let cells = used.iter().map(|&column| match self.columns[column].1 {
                Side::Left => format!("{:<width$}", line[column], width = width(column)),
                Side::Right => format!("{:>width$}", line[column], width = width(column)),
            });
            text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_one_another_and_empty_ones_are_left_out() {
        let columns = [("NODE", Side::Left), ("USED", Side::Right), ("ZONE", Side::Left), ("VERSION", Side::Left)];
        let mut table = Table::new(columns.map(|(name, side)| (name.to_owned(), side)));
        let cell = |text: &str| Some(text.to_owned());
        table.add(vec![cell("größe-1"), cell("1.0 KiB"), None, cell("0.1.0")]);
        table.add(vec![cell("b"), None, None, None]);
        assert_eq!(table.to_text(), "NODE        USED  VERSION\ngröße-1  1.0 KiB  0.1.0\nb              -  -\n");
    }
}
