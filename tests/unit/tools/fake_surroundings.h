// A host of the test's own making.
#pragma once

#include <map>
#include <set>
#include <string>

#include "tools/surroundings.h"

namespace tunnel::tools {

class FakeSurroundings final : public Surroundings {
 public:
  [[nodiscard]] const std::map<std::string, std::string>& variables() const override { return variable; }
  [[nodiscard]] std::string HostName() const override { return host_name; }
  [[nodiscard]] absl::StatusOr<std::string> ReadFile(const std::string& path) const override {
    const auto found = files.find(path);
    if (found == files.end()) return NotFound("{}: No such file or directory", path);
    return found->second;
  }
  [[nodiscard]] absl::Status CheckReadable(const std::string& path) const override {
    return files.contains(path) ? absl::OkStatus() : NotFound("No such file or directory");
  }
  [[nodiscard]] bool IsWorldReadable(const std::string& path) const override { return world_readable.contains(path); }
  [[nodiscard]] bool HasCongestionControl(const std::string& name) const override {
    return name == "cubic" || name == "bbr";
  }

  std::map<std::string, std::string> variable = {{"HOME", "/home/u"}};
  std::map<std::string, std::string> files = {{"cert.pem", "c"}, {"key.pem", "k"}, {"ca.pem", "a"}};
  std::set<std::string> world_readable;
  std::string host_name = "Gateway.Example.org";
};

}  // namespace tunnel::tools
