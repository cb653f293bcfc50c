// How the ECH life cycle asks DNS questions without knowing what carries them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"
#include "core/task.h"

namespace tunnel::ech {

class DohTransport {
 public:
  // Asks for `name`'s records of DNS type `type` and returns the response message, its framing and its header checked
  // (a response, to this question, not truncated) and its rcode untouched. Ends with words that name the resolver when
  // none answered. Any number of calls may overlap. `name` is in presentation form.
  [[nodiscard]] virtual core::Task<absl::StatusOr<std::vector<uint8_t>>> Query(std::string name, uint16_t type) = 0;

 protected:
  ~DohTransport() = default;
};

}  // namespace tunnel::ech
