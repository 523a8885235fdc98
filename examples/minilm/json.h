// JSON as values: enough for config.json and the header of a .safetensors file.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

struct Json {
    enum class Kind { Null, Bool, Number, String, Array, Object } kind = Kind::Null;
    bool boolean = false;
    double number = 0;
    std::string string;
    std::vector<Json> array;
    std::map<std::string, Json> object;

    /// A member, or an error that names it.
    [[nodiscard]] const Json& at(const std::string& name) const;
    /// A non-negative whole number.
    [[nodiscard]] size_t size() const;
};

/// Throws std::runtime_error with the place of the fault.
Json parse_json(std::string_view text);
/// `text` in quotes.
std::string json_string(std::string_view text);
