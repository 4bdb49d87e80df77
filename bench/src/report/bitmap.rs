//! A plotters backend for PNG that draws text with an 8x8 bitmap font: no font of the system is needed.

use font8x8::legacy::BASIC_LEGACY;
use plotters::prelude::{BitMapBackend, DrawingBackend};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind};

/// Pixels of a character's side.
const GLYPH: i32 = 8;

/// A bitmap with text.
pub(super) struct LabelledBitmap<'p>(pub(super) BitMapBackend<'p>);

type BitmapError = <BitMapBackend<'static> as DrawingBackend>::ErrorType;
type DrawResult = Result<(), DrawingErrorKind<BitmapError>>;

impl DrawingBackend for LabelledBitmap<'_> {
    type ErrorType = BitmapError;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> DrawResult {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> DrawResult {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> DrawResult {
        self.0.draw_pixel(point, color)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> DrawResult {
        self.0.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> DrawResult {
        self.0.draw_rect(upper_left, bottom_right, style, fill)
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> DrawResult {
        let (width, height) = (GLYPH * text.chars().count() as i32, GLYPH);
        let left = match style.anchor().h_pos {
            HPos::Left => at.0,
            HPos::Center => at.0 - width / 2,
            HPos::Right => at.0 - width,
        };
        let top = match style.anchor().v_pos {
            VPos::Top => at.1,
            VPos::Center => at.1 - height / 2,
            VPos::Bottom => at.1 - height,
        };
        for (index, letter) in text.chars().enumerate() {
            let glyph = BASIC_LEGACY.get(letter as usize).unwrap_or(&BASIC_LEGACY[usize::from(b'?')]);
            self.draw_glyph(glyph, (left + GLYPH * index as i32, top), style.color())?;
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        Ok((GLYPH as u32 * text.chars().count() as u32, GLYPH as u32))
    }
}

impl LabelledBitmap<'_> {
    fn draw_glyph(&mut self, glyph: &[u8; 8], at: BackendCoord, color: BackendColor) -> DrawResult {
        let (width, height) = self.0.get_size();
        for (y, row) in glyph.iter().enumerate() {
            for x in (0..GLYPH).filter(|x| row >> x & 1 == 1) {
                let point = (at.0 + x, at.1 + y as i32);
                if (0..width as i32).contains(&point.0) && (0..height as i32).contains(&point.1) {
                    self.0.draw_pixel(point, color)?;
                }
            }
        }
        Ok(())
    }
}
