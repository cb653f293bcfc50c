// A resolver that knows the names a test gives it, and answers when it is told to.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/task.h"
#include "net/resolver.h"

namespace tunnel::net {

// Literals are answered at once, without a question.
class FakeResolver final : public Resolver {
 public:
  core::Task<absl::StatusOr<std::vector<core::SocketAddress>>> Resolve(std::string host, uint16_t port) override {
    if (const auto literal = core::SocketAddress::Parse(host, port); literal.has_value()) {
      co_return std::vector<core::SocketAddress>{*literal};
    }
    questions.push_back(host);
    if (hold) {
      const absl::Status waited = co_await released.Wait();
      if (!waited.ok()) co_return waited;
    }
    const auto found = names.find(host);
    if (found == names.end()) co_return NotFound("no such name");
    std::vector<core::SocketAddress> addresses;
    for (const std::string& ip : found->second) addresses.push_back(*core::SocketAddress::Parse(ip, port));
    co_return std::move(addresses);
  }

  std::map<std::string, std::vector<std::string>> names;
  bool hold = false;
  core::Event released;
  std::vector<std::string> questions;
};

}  // namespace tunnel::net
