// Reads of captured tensors: every element type, layout and form of index, in and out of range. The memory around a
// tensor faults (variant.cpp), so a read beyond it is a crash.
#include <doctest/doctest.h>
#include <cmath>

#include "variant.h"

using namespace flexc;
using ir::ElemType;
using ir::NodeId;
using ir::Op;
using test::Layout;
using test::Variant;

namespace {

constexpr ElemType kElems[] = {ElemType::F32, ElemType::F16, ElemType::BF16, ElemType::I32,
                               ElemType::I16, ElemType::I8,  ElemType::U8,   ElemType::Bool};
constexpr Layout kLayouts[] = {Layout::Contiguous, Layout::Strided, Layout::Reversed};

std::vector<double> values_for(ElemType elem, size_t count) {
    std::vector<double> values;
    for (size_t i = 0; i < count; i++) {
        const double x = double(int(i * 37 % 251) - 120);
        switch (elem) {
            case ElemType::U8: values.push_back(x + 120); break;
            case ElemType::Bool: values.push_back(i % 3 == 1); break;
            case ElemType::F32:
            case ElemType::F16:
            case ElemType::BF16: values.push_back(x / 8); break;
            default: values.push_back(x);
        }
    }
    return values;
}

/// Both clauses check the value.
void use(Variant& v, NodeId value) {
    switch (v.g.type(value)) {
        case ir::Type::F32:
            v.attention.score = v.make(Op::Add, {v.score, value});
            v.attention.mask = v.make(Op::Lt, {value, v.g.f32(1)});
            break;
        case ir::Type::I32:
            v.attention.score = v.make(Op::Sub, {v.score, v.make(Op::ToF32, {value})});
            v.attention.mask = v.make(Op::Ne, {value, v.g.i32(0)});
            break;
        case ir::Type::Bool:
            v.attention.score = v.make(Op::Select, {value, v.score, v.g.f32(-7)});
            v.attention.mask = value;
            break;
    }
}

}  // namespace

TEST_CASE("a vector of keys, of every type and layout") {
    for (const ElemType elem : kElems)
        for (const Layout layout : kLayouts) {
            CAPTURE(ir::name(elem));
            CAPTURE(int(layout));
            Variant v({1, 2, 1, 5, 37, 8, 8});
            const uint32_t t = v.tensor(elem, {37}, values_for(elem, 37), layout);
            use(v, v.load(t, {v.k}));
            test::check_hooks(v);
        }
}

TEST_CASE("indices of every form") {
    for (const ElemType elem : {ElemType::F32, ElemType::BF16, ElemType::Bool})
        for (const Layout layout : {Layout::Contiguous, Layout::Reversed})
            for (int form = 0; form < 12; form++) {
                CAPTURE(ir::name(elem));
                CAPTURE(int(layout));
                CAPTURE(form);
                Variant v({2, 4, 2, 9, 37, 8, 8});
                const auto i = [&](int32_t value) { return v.g.i32(value); };
                const auto one = [&] { return v.tensor(elem, {37}, values_for(elem, 37), layout); };
                const auto two = [&] { return v.tensor(elem, {9, 37}, values_for(elem, 9 * 37), layout); };
                NodeId value;
                switch (form) {
                    case 0: value = v.load(one(), {v.q}); break;
                    case 1: value = v.load(one(), {v.make(Op::Add, {v.k, i(-5)})}); break;  // in range in the middle
                    case 2: value = v.load(one(), {v.make(Op::Sub, {v.make(Op::Add, {v.q, i(20)}), v.k})}); break;  // falling
                    case 3: value = v.load(one(), {v.make(Op::Mul, {v.k, i(2)})}); break;
                    case 4: value = v.load(two(), {v.q, v.k}); break;
                    case 5: value = v.load(two(), {v.k, v.q}); break;  // transposed, out of range
                    case 6:
                        value = v.load(two(), {v.make(Op::Mod, {v.k, i(9)}), v.make(Op::Add, {v.k, v.scalar_i32(3)})});
                        break;                                                                          // two varying
                    case 7: value = v.load(one(), {v.make(Op::Add, {v.k, i(INT32_MAX - 10)})}); break;  // wraps
                    case 8: value = v.load(one(), {v.make(Op::Sub, {v.b, i(1)})}); break;               // a row out of range
                    case 9: value = v.load(two(), {v.make(Op::Sub, {v.q, i(3)}), v.k}); break;          // rows out of range
                    case 10: {
                        const uint32_t indirect = v.tensor(ElemType::I32, {37}, values_for(ElemType::I32, 37));
                        value = v.load(one(), {v.load(indirect, {v.k})});
                        break;
                    }
                    default: {
                        const uint32_t four = v.tensor(elem, {2, 4, 9, 37}, values_for(elem, 2 * 4 * 9 * 37), layout);
                        value = v.load(four, {v.b, v.h, v.q, v.k});
                    }
                }
                use(v, value);
                test::check_hooks(v);
            }
}

TEST_CASE("tensors of no and of one element") {
    for (const ElemType elem : kElems)
        for (const int32_t n : {0, 1}) {
            Variant v({1, 1, 1, 3, 21, 8, 8});
            CAPTURE(ir::name(elem));
            CAPTURE(n);
            const uint32_t t = v.free_tensor(elem, n, values_for(elem, size_t(n)));
            const NodeId zeroth = v.load(t, {v.g.i32(0)});
            use(v, v.load(t, {v.make(Op::Sub, {v.k, v.q})}));
            if (v.g.type(zeroth) == ir::Type::Bool)
                v.attention.mask = v.make(Op::Eq, {zeroth, v.attention.mask});
            else
                v.attention.mask = v.make(Op::Lt, {zeroth, v.load(t, {v.k})});
            test::check_hooks(v);
        }
}

TEST_CASE("every f16") {
    std::vector<double> values;
    for (uint32_t bits = 0; bits < 0x10000; bits++) values.push_back(double(std::bit_cast<_Float16>(uint16_t(bits))));
    Variant v({1, 1, 1, 1, 0x10000, 8, 8});
    v.attention.score = v.load(v.tensor(ElemType::F16, {0x10000}, values), {v.k});
    test::check_hooks(v);
    v.extents = {1, 1, 1, 300, 3, 8, 8};
    const uint32_t t = v.tensor(ElemType::F16, {0x10000}, values);
    v.attention.score = v.load(t, {v.make(Op::Mul, {v.q, v.g.i32(211)})});
    test::check_hooks(v);
}
