#include "tools/picture/png.h"

#include <png.h>

#include <csetjmp>

#include "tools/io/atomic_file.h"

namespace flexc::picture {
namespace {

/// libpng reports faults by longjmp, so nothing with a destructor lives in this function.
bool encode(std::FILE* file, const PixelCanvas& canvas) {
    const auto fail = [](png_structp writer, png_const_charp) { png_longjmp(writer, 1); };  // the caller says it, libpng nothing
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, fail, [](png_structp, png_const_charp) {});
    if (!png) return false;
    png_infop info = png_create_info_struct(png);
    if (!info || setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        return false;
    }
    png_init_io(png, file);
    png_set_IHDR(png, info, static_cast<png_uint_32>(canvas.width()), static_cast<png_uint_32>(canvas.height()), 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);  // flat colours compress best as they are
    png_write_info(png, info);
    static_assert(sizeof(Colour) == 3, "a row of colours is a row of RGB bytes");
    for (int y = 0; y < canvas.height(); ++y) png_write_row(png, reinterpret_cast<png_const_bytep>(canvas.row(y)));
    png_write_end(png, nullptr);
    png_destroy_write_struct(&png, &info);
    return true;
}

}  // namespace

flex::Status write_png(const std::filesystem::path& path, const std::vector<Picture>& panels) {
    const Size size = layout_size(panels);
    PixelCanvas canvas(size.width, size.height, kBackground);
    draw(panels, canvas);
    return write_png(path, canvas);
}

flex::Status write_png(const std::filesystem::path& path, const PixelCanvas& canvas) {
    io::AtomicFile file(path);
    if (flex::Status status = file.open(); !status.ok()) return status;
    if (!encode(file.stream(), canvas)) return {flex::Code::InvalidArgument, "the picture could not be written"};
    return file.commit();
}

flex::Status write_svg(const std::filesystem::path& path, const std::vector<Picture>& panels) {
    const Size size = layout_size(panels);
    SvgCanvas canvas(size.width, size.height, kBackground);
    draw(panels, canvas);
    const std::string text = canvas.finish();
    return io::write_file(path, std::as_bytes(std::span(text)));
}

}  // namespace flexc::picture
