#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/unit/io/io_test_util.h"
#include "tools/io/convert.h"

using namespace flexc::io;
using namespace flexc::io::test;
using Kind = ConvertFault::Kind;

TEST_CASE("parameters: integers of another width are converted if each fits") {
    Array out;
    CHECK(convert_exact(array_of<int64_t>(FileType::I64, {2}, {5, -2147483648LL}), FileType::I32, &out).kind == Kind::None);
    CHECK(element(out, 1) == -2147483648.0);
    const auto fault = convert_exact(array_of<int64_t>(FileType::I64, {2, 2}, {0, 1, 2147483648LL, 3}), FileType::I32, &out);
    CHECK(fault.kind == Kind::Inexact);
    CHECK(fault.at == 2);
    CHECK(index_text({2, 2}, 2) == "[1, 0]");
    CHECK(convert_exact(array_of<int8_t>(FileType::I8, {1}, {-1}), FileType::U8, &out).kind == Kind::Inexact);
    CHECK(convert_exact(array_of<uint64_t>(FileType::U64, {1}, {UINT64_MAX}), FileType::I32, &out).kind == Kind::Inexact);
    CHECK(convert_exact(array_of<uint64_t>(FileType::U64, {1}, {UINT64_MAX}), FileType::I8, &out).kind == Kind::Inexact);
    CHECK(convert_exact(array_of<uint16_t>(FileType::U16, {1}, {65535}), FileType::I32, &out).kind == Kind::None);
    CHECK(element(out, 0) == 65535);
    CHECK(convert_exact(array_of<uint8_t>(FileType::U8, {1}, {200}), FileType::I16, &out).kind == Kind::None);
    CHECK(element(out, 0) == 200);
}

TEST_CASE("parameters: floats of another precision are converted if exact") {
    Array out;
    CHECK(convert_exact(array_of<double>(FileType::F64, {3}, {0.5, INFINITY, NAN}), FileType::F32, &out).kind == Kind::None);
    CHECK(element(out, 1) == INFINITY);
    CHECK(std::isnan(element(out, 2)));
    CHECK(convert_exact(array_of<double>(FileType::F64, {2}, {0.5, 0.1}), FileType::F32, &out).at == 1);
    CHECK(convert_exact(array_of<double>(FileType::F64, {1}, {1e300}), FileType::F32, &out).kind == Kind::Inexact);
    CHECK(convert_exact(array_of<float>(FileType::F32, {1}, {65536}), FileType::F16, &out).kind == Kind::Inexact);
    CHECK(convert_exact(array_of<float>(FileType::F32, {1}, {2049}), FileType::F16, &out).kind == Kind::Inexact);
    CHECK(convert_exact(array_of<uint16_t>(FileType::F16, {1}, {0x0001}), FileType::F32, &out).kind == Kind::None);
    CHECK(element(out, 0) == std::ldexp(1.0, -24));
}

TEST_CASE("parameters: another kind of number is refused") {
    Array out;
    CHECK(convert_exact(array_of<int32_t>(FileType::I32, {1}, {1}), FileType::F32, &out).kind == Kind::OtherKind);
    CHECK(convert_exact(array_of<float>(FileType::F32, {1}, {1}), FileType::I32, &out).kind == Kind::OtherKind);
    CHECK(convert_exact(array_of<uint8_t>(FileType::U8, {1}, {1}), FileType::Bool, &out).kind == Kind::OtherKind);
    CHECK(convert_exact(array_of<uint8_t>(FileType::Bool, {1}, {1}), FileType::U8, &out).kind == Kind::OtherKind);
}

TEST_CASE("f64 to bf16 and f16 rounds once, to nearest even") {
    CHECK(to_bf16(1.0) == 0x3f80);
    CHECK(to_bf16(1.0 + std::ldexp(1.0, -8)) == 0x3f80);                        // a tie: to even
    CHECK(to_bf16(1.0 + std::ldexp(1.0, -7) + std::ldexp(1.0, -8)) == 0x3f82);  // a tie: to even
    // Above the tie by less than f32 can hold: rounding twice would give 0x3f80.
    CHECK(to_bf16(1.0 + std::ldexp(1.0, -8) + std::ldexp(1.0, -40)) == 0x3f81);
    CHECK(to_bf16(-1.0 - std::ldexp(1.0, -8) - std::ldexp(1.0, -40)) == 0xbf81);
    CHECK(to_bf16(1.0 + std::ldexp(1.0, -8) - std::ldexp(1.0, -40)) == 0x3f80);
    CHECK(to_bf16(std::numeric_limits<double>::max()) == 0x7f80);
    CHECK(to_bf16(-INFINITY) == 0xff80);
    CHECK(to_bf16(NAN) == 0x7fc0);
    CHECK(to_bf16(-0.0) == 0x8000);
    CHECK(to_bf16(std::ldexp(1.0, -133)) == 0x0001);
    CHECK(to_f16(1.0 + std::ldexp(1.0, -11) + std::ldexp(1.0, -40)) == 0x3c01);
    CHECK(to_f16(65519.999) == 0x7bff);
    CHECK(to_f16(65520.0) == 0x7c00);
}
