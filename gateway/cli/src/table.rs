//! Columns for people, aligned by characters.

/// The table as text, its last column unpadded, one line each.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|h| h.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head.map(String::from)).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "übér".into(), "x".into()], ["long-one".into(), String::new(), "y".into()]];
        let text = super::table(["UNIT", "S", "T"], &rows);
        assert_eq!(text, "UNIT      S     T\na         übér  x\nlong-one        y\n");
    }
}
