// A painted canvas as a PNG file, by libpng.
#pragma once

#include <filesystem>

#include "tools/picture/canvas.h"

namespace flexc::picture {

/// Written to a temporary name and renamed.
flex::Status write_png(const std::filesystem::path& path, const PixelCanvas& canvas);

}  // namespace flexc::picture
