// One backward pass of an instance on the emulated device, and the same in float64.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/unit/skeleton/attention.h"
#include "tests/unit/skeleton/backward_arguments.h"

namespace skeleton_test {

struct BackwardInstance {
    std::string name, element;
    int d, dv, tile_q, tile_k, query_warps, key_warps, query_shared_bytes, key_shared_bytes;
};
const std::vector<BackwardInstance>& backward_instances();

struct BackwardCase : Case {
    bool d_lse = false, d_max_score = false;
    bool k_shared = false, v_shared = false;
    bool atomic = false;
    uint64_t schedule = 1;  // of warps and blocks
    float offset = 0;       // of all that is read by row, so that |lse| is large
    float bad = 0;          // not finite: in rows of what `bad_in` names, from bad_from on
    std::string bad_in;
};

struct BackwardInputs {
    std::vector<float> q, k, v, d_o, o;  // dense; o rounded to elements, as the forward pass leaves it
    std::vector<float> lse, d_lse, d_max_score;
    std::vector<float> value[kTestGradients];
    std::vector<int32_t> doc;
};

struct Gradients {
    std::string fault;
    std::vector<float> dq, dk, dv, d_value[kTestGradients];
};
struct ExpectedGradients {
    std::vector<double> dq, dk, dv, d_value[kTestGradients];
    std::vector<double> size_of[kTestGradients];  // sums of the same terms without their signs
};

/// `expected` as float64 has it; o and lse of the inputs come from the same.
BackwardInputs make_backward_inputs(const BackwardInstance& instance, const BackwardCase& c, ExpectedGradients* expected);
/// With `ptx` that in place of the instance's own.
Gradients run(const BackwardInstance& instance, const BackwardCase& c, const BackwardInputs& inputs, const std::string* ptx = nullptr);
std::string ptx_of(const BackwardInstance& instance, const BackwardCase& c);
std::string compare(const BackwardInstance& instance, const BackwardCase& c, const Gradients& got, const ExpectedGradients& want);
std::string check(const BackwardInstance& instance, const BackwardCase& c);

/// The test mask and score clause in float64.
bool keeps(const Case& c, const std::vector<int32_t>& doc, int h, int q, int k);
double score_of(const Case& c, int h, int q, int k, double score);
float to_element(const std::string& element, float x);

}  // namespace skeleton_test
