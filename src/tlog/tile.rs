//! Tiles: the files that a log consists of (C2SP tlog-tiles), and their paths.

/// Hashes, or entries, of a full tile.
pub const TILE_WIDTH: u16 = 256;
/// The highest level that a path can name.
const MAX_LEVEL: u8 = 63;
/// Characters of the longest path.
const MAX_PATH: usize = 64;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Hashes of a level; those of level 0 are leaf hashes.
    Hashes(u8),
    /// Leaves themselves, each after its length in two octets.
    Entries,
}

/// One tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    pub rows: Rows,
    /// Its place in its level.
    pub index: u64,
    /// Hashes or entries in it, 1 to [`TILE_WIDTH`]; less makes it a partial one.
    pub width: u16,
}

impl Tile {
    /// Reads `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`; `None` unless it is exactly that.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.get(..MAX_PATH.min(path.len()))?.strip_prefix("tile/")?.split_once('/')?;
        let rows = match level {
            "entries" => Rows::Entries,
            level => Rows::Hashes(level.parse().ok().filter(|level| *level <= MAX_LEVEL)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?),
            None => (rest, TILE_WIDTH),
        };
        let mut number = 0_u64;
        for element in index.split('/') {
            let digits = element.trim_start_matches('x');
            number = number.checked_mul(1_000)?.checked_add(digits.parse().ok().filter(|part| *part < 1_000)?)?;
        }
        let tile = Self { rows, index: number, width };
        // One form of each number, and nothing that `parse` of numbers is lenient about.
        (tile.path() == path).then_some(tile)
    }

    /// The path, without a slash in front.
    pub fn path(&self) -> String {
        let level = match self.rows {
            Rows::Hashes(level) => level.to_string(),
            Rows::Entries => "entries".to_owned(),
        };
        let mut number = format!("{:03}", self.index % 1_000);
        let mut rest = self.index / 1_000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1_000);
            rest /= 1_000;
        }
        let partial = if self.width < TILE_WIDTH { format!(".p/{}", self.width) } else { String::new() };
        format!("tile/{level}/{number}{partial}")
    }

    /// The hash, or entry, of the level that it begins with.
    pub fn first(&self) -> Option<u64> {
        self.index.checked_mul(u64::from(TILE_WIDTH))
    }

    /// True if a tree of `size` leaves has all of it.
    pub fn is_in(&self, size: u64) -> bool {
        let level = if let Rows::Hashes(level) = self.rows { u32::from(level) } else { 0 };
        let held = size.checked_shr(8 * level).unwrap_or(0);
        self.first().and_then(|first| first.checked_add(u64::from(self.width))).is_some_and(|end| end <= held)
    }

    /// The widest form of the tile at `index` that a tree of `size` leaves has; `None` if it has none.
    pub fn at(rows: Rows, index: u64, size: u64) -> Option<Self> {
        let level = if let Rows::Hashes(level) = rows { u32::from(level) } else { 0 };
        let held = size.checked_shr(8 * level).unwrap_or(0).checked_sub(index.checked_mul(u64::from(TILE_WIDTH))?)?;
        let width = held.min(u64::from(TILE_WIDTH)) as u16;
        (width > 0).then_some(Self { rows, index, width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |rows, index, width| Tile { rows, index, width };
        for (path, wanted) in [
            ("tile/0/x001/x234/067", tile(Rows::Hashes(0), 1_234_067, 256)),
            ("tile/63/000.p/255", tile(Rows::Hashes(63), 0, 255)),
            ("tile/entries/273.p/112", tile(Rows::Entries, 273, 112)),
            ("tile/entries/x018/x446/x744/x073/x709/x551/615", tile(Rows::Entries, u64::MAX, 256)),
        ] {
            assert_eq!(Tile::parse(path), Some(wanted), "{path}");
            assert_eq!(wanted.path(), path);
        }
        for path in [
            "",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/64/000",
            "tile/00/000",
            "tile/+1/000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001",
            "tile/0/xx01/002",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000/",
            "tile/0/+01",
            "tile/data/000",
            "/tile/0/000",
            "tile/entries/x018/x446/x744/x073/x709/x551/616",
            "tile/0/-01",
            "tile/0/00é",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }

    /// The example of the specification: a tree of 70,000 leaves.
    #[test]
    fn a_tree_has_its_tiles() {
        let widest = |level, index| Tile::at(Rows::Hashes(level), index, 70_000).map(|tile| tile.width);
        assert_eq!([widest(0, 272), widest(0, 273), widest(0, 274)], [Some(256), Some(112), None]);
        assert_eq!([widest(1, 0), widest(1, 1), widest(1, 2)], [Some(256), Some(17), None]);
        assert_eq!([widest(2, 0), widest(2, 1), widest(3, 0), widest(63, 0)], [Some(1), None, None, None]);
        assert_eq!(Tile::at(Rows::Hashes(0), u64::MAX, u64::MAX), None);
        let at = |width| Tile { rows: Rows::Entries, index: 273, width };
        assert!(at(112).is_in(70_000) && !at(113).is_in(70_000) && !at(256).is_in(70_000));
        assert!(!Tile { rows: Rows::Hashes(0), index: u64::MAX, width: 256 }.is_in(u64::MAX));
    }
}
