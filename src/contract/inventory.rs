//! Contents of a module: its index spaces, and what its instances begin with.
//!
//! wasmtime lays out what it can when it compiles: data and elements at constant places of the module's own memory and
//! tables. All else becomes code of a function that runs when an instance begins.

use wasmparser::{
    ConstExpr, Data, DataKind, Element, ElementItems, ElementKind, Global, Import, Operator, Table, TableInit, TypeRef,
};

use super::check::ContractError;
use super::fuel::Parts;

const PAGE: u64 = 64 * 1024;

/// The module at hand.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Values that each type takes, and gives.
    pub types: Vec<(u64, u64)>,
    /// Types of all functions, imported ones first.
    pub functions: Vec<u32>,
    /// Of the next body.
    pub next: usize,
    imported_memories: u32,
    memories: u64,
    /// Elements that each table begins with, if it is the module's own and begins empty.
    tables: Vec<Option<u64>>,
    /// Whether an element segment has come that is code; all after it are, too.
    elements_are_code: bool,
    data: DataSegments,
    parts: Parts,
    /// Items of segments that are copied when code asks for it.
    passive: u64,
}

/// All active ones: either all are laid out, or none.
#[derive(Debug, Default)]
struct DataSegments {
    count: u64,
    octets: u64,
    /// Where the first begins and the last ends.
    from: Option<u64>,
    to: u64,
    are_code: bool,
}

/// Parts of the function that runs when an instance begins.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Startup {
    /// Items of element segments that it puts into tables, and keeps for later.
    pub items: u64,
    pub passive: u64,
    /// Data segments that it copies.
    pub segments: u64,
    /// Instructions of constant expressions.
    pub expressions: u64,
}

impl Inventory {
    /// Gives how many values it takes and gives, if it is a function.
    pub fn import(&mut self, import: &Import<'_>) -> u64 {
        self.parts.imports += 1;
        match import.ty {
            TypeRef::Func(of_type) | TypeRef::FuncExact(of_type) => self.functions.push(of_type),
            TypeRef::Table(_) => self.tables.push(None),
            TypeRef::Memory(_) => self.imported_memories += 1,
            _ => {}
        }
        self.next = self.functions.len();
        let TypeRef::Func(of_type) = import.ty else { return 0 };
        let (takes, gives) = self.of_type(of_type);
        takes + gives
    }

    pub fn function(&mut self, of_type: u32) {
        self.parts.functions += 1;
        self.functions.push(of_type);
    }

    pub fn table(&mut self, table: &Table<'_>) -> Result<(), ContractError> {
        self.parts.tables += 1;
        self.parts.table_elements += table.ty.initial;
        let begins_empty = match &table.init {
            TableInit::RefNull => true,
            TableInit::Expr(expression) => {
                self.expression(expression)?;
                self.parts.items += table.ty.initial;
                false
            }
        };
        self.tables.push(begins_empty.then_some(table.ty.initial));
        Ok(())
    }

    pub fn memory(&mut self, pages: u64) {
        self.memories += 1;
        self.parts.pages += pages;
    }

    pub fn global(&mut self, global: &Global<'_>) -> Result<(), ContractError> {
        self.parts.globals += 1;
        if constant(&global.init_expr)?.is_none() {
            self.expression(&global.init_expr)?;
        }
        Ok(())
    }

    pub fn elements(&mut self, element: &Element<'_>) -> Result<(), ContractError> {
        let (count, functions) = match &element.items {
            ElementItems::Functions(functions) => (u64::from(functions.count()), true),
            ElementItems::Expressions(_, expressions) => (u64::from(expressions.count()), false),
        };
        match &element.kind {
            ElementKind::Declared => return Ok(()),
            ElementKind::Passive => self.passive += count,
            ElementKind::Active { table_index, offset_expr } => {
                let room = self.tables.get(table_index.unwrap_or(0) as usize).copied().flatten();
                let end = constant(offset_expr)?.map(|offset| offset.saturating_add(count));
                let fits = room.zip(end).is_some_and(|(room, end)| end <= room);
                self.elements_are_code |= !(fits && functions);
                if self.elements_are_code {
                    self.parts.segments += 1;
                    self.parts.items += count;
                    self.expression(offset_expr)?;
                }
            }
        }
        if let ElementItems::Expressions(_, expressions) = &element.items {
            for expression in expressions.clone() {
                self.expression(&expression?)?;
            }
        }
        Ok(())
    }

    pub fn data(&mut self, data: &Data<'_>) -> Result<(), ContractError> {
        let DataKind::Active { memory_index, offset_expr } = &data.kind else { return Ok(()) };
        let octets = data.data.len() as u64;
        let segments = &mut self.data;
        segments.count += 1;
        segments.octets += octets;
        let end = constant(offset_expr)?.map(|offset| (offset, offset.saturating_add(octets)));
        let own = *memory_index >= self.imported_memories;
        match end {
            Some((from, to)) if own && to <= self.parts.pages * PAGE => {
                segments.from = Some(segments.from.map_or(from, |first| first.min(from)));
                segments.to = segments.to.max(to);
            }
            _ => segments.are_code = true,
        }
        self.expression(offset_expr)
    }

    /// Octets that the laid out memory spans.
    pub fn image(&self) -> u64 {
        self.data.from.map_or(0, |from| self.data.to - from)
    }

    /// The code that runs when an instance begins.
    pub fn startup(&self) -> Startup {
        let segments = if self.data.are_code { self.data.count } else { 0 };
        let Parts { items, expressions, .. } = self.parts;
        Startup { items, passive: self.passive, segments, expressions }
    }

    /// Parts of an instance.
    pub fn parts(&self) -> Parts {
        let mut parts = self.parts;
        parts.image = self.image();
        parts.items += self.passive;
        if self.data.are_code {
            parts.segments += self.data.count;
            parts.octets += self.data.octets;
        }
        parts
    }

    /// Values that a function takes, and gives. What is of no type is malformed, and found out later.
    pub fn of_function(&self, index: usize) -> (u64, u64) {
        self.functions.get(index).map_or((0, 0), |of_type| self.of_type(*of_type))
    }

    pub fn of_type(&self, index: u32) -> (u64, u64) {
        self.types.get(index as usize).copied().unwrap_or_default()
    }

    fn expression(&mut self, expression: &ConstExpr<'_>) -> Result<(), ContractError> {
        for operator in expression.get_operators_reader() {
            operator?;
            self.parts.expressions += 1;
        }
        Ok(())
    }
}

/// The number that an expression is, if it is no more than that.
fn constant(expression: &ConstExpr<'_>) -> Result<Option<u64>, ContractError> {
    let mut operators = expression.get_operators_reader();
    let value = match operators.read()? {
        Operator::I32Const { value } => u64::from(value.cast_unsigned()),
        Operator::I64Const { value } => value.cast_unsigned(),
        Operator::F32Const { .. } | Operator::F64Const { .. } => 0,
        _ => return Ok(None),
    };
    Ok(matches!(operators.read()?, Operator::End).then_some(value))
}
