#include <doctest/doctest.h>

#include <cstring>

#include "tools/inputs.h"
#include "tools/io/convert.h"

using namespace flexc;
using namespace flexc::tools;

TEST_CASE("--shape is a list of extents") {
    const auto shape = parse_shape("B=1,HKV=2,Q=0");
    REQUIRE(shape);
    CHECK(shape->size() == 3);
    CHECK(shape->at("HKV") == 2);
    CHECK(shape->at("Q") == 0);
    CHECK(parse_shape("K=2147483647"));
    for (const char* wrong : {"", "B", "B=", "=1", "B=1,", "B=1,,Q=2", "B=-1", "B=2147483648", "B=1x", "B=1,B=1", "B=1.0", " B = 1"}) {
        CAPTURE(wrong);
        CHECK_FALSE(parse_shape(wrong));
    }
}

TEST_CASE("--tiles and --range") {
    const auto tile = parse_tile("128x64");
    REQUIRE(tile);
    CHECK(tile->q == 128);
    CHECK(tile->k == 64);
    for (const char* wrong : {"", "128", "x", "128x", "x128", "0x4", "4x0", "4x4x4", "-4x4", "4X4"}) CHECK_FALSE(parse_tile(wrong));
    const auto range = parse_range("2:10,:7");
    REQUIRE(range);
    CHECK(range->q_begin == 2);
    CHECK(range->q_end == 10);
    CHECK_FALSE(range->k_begin);
    CHECK(range->k_end == 7);
    CHECK(parse_range(":,:"));
    for (const char* wrong : {"", "1:2", "1,2", "1:2,3", "a:2,:", "1:2,3:4,5:6", "-1:2,:"}) CHECK_FALSE(parse_range(wrong));
}

TEST_CASE("--set NAME=VALUE keeps all after the first sign of equality") {
    const auto assignment = parse_assignment("file=a=b.npy");
    REQUIRE(assignment);
    CHECK(assignment->name == "file");
    CHECK(assignment->value == "a=b.npy");
    CHECK(parse_assignment("x=")->value.empty());
    CHECK_FALSE(parse_assignment("x"));
    CHECK_FALSE(parse_assignment("=x"));
}

TEST_CASE("scalars in text are values of their type or nothing") {
    using flex::DType;
    const auto value = [](const char* text, DType type) {
        const auto array = parse_scalar(text, type);
        REQUIRE(array);
        CHECK(array->shape.empty());
        return io::element(*array, 0);
    };
    CHECK(value("1024", DType::I32) == 1024);
    CHECK(value("-2147483648", DType::I32) == -2147483648.0);
    CHECK(value("+7", DType::I32) == 7);
    CHECK(value("0xff", DType::I32) == 255);
    CHECK(value("-0x10", DType::I32) == -16);
    CHECK(value("-128", DType::I8) == -128);
    CHECK(value("255", DType::U8) == 255);
    CHECK(value("0.5", DType::F32) == 0.5);
    CHECK(value("3", DType::F32) == 3);
    CHECK(value("-1e30", DType::F32) == static_cast<double>(-1e30F));
    CHECK(value("1e-60", DType::F32) == 0);
    CHECK(value("-inf", DType::F32) < -1e300);
    CHECK(value("0.1", DType::F32) == static_cast<double>(0.1F));
    CHECK(value("true", DType::Bool) == 1);
    CHECK(value(" false ", DType::Bool) == 0);
    for (const char* wrong : {"", "x", "1.5", "2147483648", "1 2", "--1", "0x", "true"}) {
        CAPTURE(wrong);
        CHECK_FALSE(parse_scalar(wrong, DType::I32));
    }
    for (const char* wrong : {"", "x", "1e39", "1e999", "1.0.0", "true"}) {
        CAPTURE(wrong);
        CHECK_FALSE(parse_scalar(wrong, DType::F32));
    }
    for (const char* wrong : {"128", "-129"}) CHECK_FALSE(parse_scalar(wrong, DType::I8));
    for (const char* wrong : {"256", "-1"}) CHECK_FALSE(parse_scalar(wrong, DType::U8));
    for (const char* wrong : {"1", "0", "True", ""}) CHECK_FALSE(parse_scalar(wrong, DType::Bool));
}
