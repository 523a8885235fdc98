// flexc build --emit=header: a header and an object beside it, and for build systems the list of files read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "driver/linkable.h"

namespace flexc::tools {

struct HeaderOptions {
    LinkOptions link;
    std::filesystem::path out;      // a folder, or a name to which ".h" and ".o" are added; empty: the attention's name
    std::filesystem::path depfile;  // a Makefile rule by which both depend on every file read; empty: none
    bool json = false;
};

/// The attention of an opened session as NAME.h and NAME.o. Both appear, or neither. The exit code.
int build_header(Session& session, const ir::Attention& attention, const HeaderOptions& options);

}  // namespace flexc::tools
