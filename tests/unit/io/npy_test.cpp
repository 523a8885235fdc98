#include <doctest/doctest.h>

#include "tests/unit/io/io_test_util.h"
#include "tools/io/convert.h"
#include "tools/io/formats.h"

using namespace flexc::io;
using namespace flexc::io::test;

namespace {

std::string raw(std::initializer_list<int> values) {
    std::string out;
    for (int v : values) out += static_cast<char>(v);
    return out;
}

std::string dict(const std::string& descr, const std::string& shape, const std::string& order = "False") {
    return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

std::string error_of(const std::string& file) {
    Array array;
    return parse_npy(bytes_of(file), &array).error;
}

}  // namespace

TEST_CASE("npy: each version and spelling of the header") {
    const std::string data = raw({1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0});
    const std::vector<std::string> files = {npy(dict("<i2", "(2, 3)"), data, 1),
                                            npy(dict("<i2", "(2, 3)"), data, 2),
                                            npy(dict("<i2", "(2, 3)"), data, 3),
                                            npy("{'shape': (2L, 3L), 'fortran_order': False, 'descr': \"<i2\"}", data),
                                            npy("{ 'descr':'<i2','fortran_order':False,'shape':(2,3,)}   \n", data),
                                            npy(dict("=i2", "(2, 3)"), data)};
    for (const std::string& file : files) {
        Array array;
        const NpyResult result = parse_npy(bytes_of(file), &array);
        CHECK(result.error == "");
        CHECK(array.type == FileType::I16);
        CHECK(array.shape == std::vector<int64_t>{2, 3});
        CHECK(element(array, 0) == 1);
        CHECK(element(array, 5) == 6);
    }
}

TEST_CASE("npy: big-endian and Fortran order are converted") {
    Array array;
    REQUIRE(parse_npy(bytes_of(npy(dict(">i4", "(2,)"), raw({0, 0, 1, 2, 255, 255, 255, 254}))), &array).error == "");
    CHECK(element(array, 0) == 258);
    CHECK(element(array, 1) == -2);

    // Columns first: the 2 x 3 array [[0 1 2] [3 4 5]] is stored 0 3 1 4 2 5.
    REQUIRE(parse_npy(bytes_of(npy(dict("|u1", "(2, 3)", "True"), raw({0, 3, 1, 4, 2, 5}))), &array).error == "");
    for (int i = 0; i < 6; ++i) CHECK(element(array, i) == i);

    // Three dimensions, 2 x 2 x 2, element (a, b, c) = 4a + 2b + c at a + 2b + 4c.
    REQUIRE(parse_npy(bytes_of(npy(dict("|u1", "(2, 2, 2)", "True"), raw({0, 4, 2, 6, 1, 5, 3, 7}))), &array).error == "");
    for (int i = 0; i < 8; ++i) CHECK(element(array, i) == i);

    REQUIRE(parse_npy(bytes_of(npy(dict(">f2", "(1, 2)", "True"), raw({0x3c, 0, 0xc0, 0}))), &array).error == "");
    CHECK(element(array, 0) == 1.0);
    CHECK(element(array, 1) == -2.0);
}

TEST_CASE("npy: 0-d, empty, bool and bfloat16 arrays") {
    Array array;
    REQUIRE(parse_npy(bytes_of(npy(dict("<i4", "()"), raw({7, 0, 0, 0}))), &array).error == "");
    CHECK(array.shape.empty());
    CHECK(element(array, 0) == 7);
    REQUIRE(parse_npy(bytes_of(npy(dict("<f4", "(0, 5)", "True"), "")), &array).error == "");
    CHECK(array.count() == 0);
    REQUIRE(parse_npy(bytes_of(npy(dict("|b1", "(3,)"), raw({0, 1, 200}))), &array).error == "");
    CHECK(static_cast<int>(array.bytes[2]) == 1);
    REQUIRE(parse_npy(bytes_of(npy(dict("<V2", "(1,)"), raw({0x80, 0x3f}))), &array).error == "");
    CHECK(array.type == FileType::BF16);
    CHECK(element(array, 0) == 1.0);
}

TEST_CASE("npy: what is damaged or not supported is refused with the reason") {
    CHECK(error_of("hello world") == "not a .npy array (bad magic)");
    CHECK(error_of(npy(dict("<i4", "(2,)"), "xxx")) == "the shape [2] of i32 does not match the 3 bytes that follow");
    CHECK(error_of(npy(dict("<i4", "(9223372036854775807, 9223372036854775807)"), "xxxx")).find("does not match") != std::string::npos);
    CHECK(error_of(npy(dict("<i4", "(0, 9223372036854775807)"), "")).find("does not match") != std::string::npos);
    CHECK(error_of(npy(dict("<i4", "(99999999999999999999,)"), "xxxx")) == "the header is damaged");
    CHECK(error_of(npy(dict("<i4", "(-1,)"), "")) == "the header is damaged");
    CHECK(error_of(npy("{'descr': '<i4', 'shape': ()}", "xxxx")) == "the header is damaged");
    CHECK(error_of(npy("{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, 'shape': ()}", "xxxx")) == "the header is damaged");
    CHECK(error_of(npy(dict("<i4", "()") + "x", "xxxx")) == "the header is damaged");
    CHECK(error_of(npy(dict("<i4", "()"), "xxxx", 9)) == "version 9 of the .npy format is not known");

    Array array;
    const NpyResult objects = parse_npy(bytes_of(npy(dict("|O", "(1,)"), "pickle")), &array);
    CHECK(objects.unsupported_type);
    CHECK(objects.error == "its element type, `|O`, is not a number or bool that flexc reads");
    CHECK(parse_npy(bytes_of(npy("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,)}", "xxxx")), &array).unsupported_type);
    CHECK(parse_npy(bytes_of(npy(dict("<c8", "(1,)"), "xxxxxxxx")), &array).unsupported_type);
}

TEST_CASE("npy: no truncation and no single changed byte crashes, and truncations are errors") {
    const std::string file = npy(dict(">f4", "(2, 2)", "True"), std::string(16, 'a'));
    for (size_t n = 0; n < file.size(); ++n) CHECK(error_of(file.substr(0, n)) != "");
    for (size_t at = 0; at < file.size(); ++at) {
        for (int value : {0x00, 0x28, 0x29, 0x5b, 0x27, 0x39, 0xff}) {
            std::string changed = file;
            changed[at] = static_cast<char>(value);
            Array array;
            const NpyResult result = parse_npy(bytes_of(changed), &array);
            if (result.error.empty()) CHECK(array.bytes.size() == static_cast<size_t>(array.count()) * size_of(array.type));
        }
    }
}

TEST_CASE("npy: what is written is read back") {
    for (const Array& in : {array_of<float>(FileType::F32, {2, 2}, {1, 2, 3, -4}), array_of<uint8_t>(FileType::Bool, {}, {1}),
                            array_of<int64_t>(FileType::I64, {0, 3}, {}), array_of<uint16_t>(FileType::F16, {1}, {0x3c00})}) {
        Array out;
        const std::vector<std::byte> file = format_npy(in);
        REQUIRE(parse_npy(file, &out).error == "");
        CHECK(out.type == in.type);
        CHECK(out.shape == in.shape);
        CHECK(out.bytes == in.bytes);
        CHECK((file.size() - in.bytes.size()) % 64 == 0);
    }
}
