// What a command line means depends on where it is given: variables, files, the host. Behind an interface, so that
// tests and the fuzzer bring their own.
#pragma once

#include <map>
#include <string>

#include "core/status.h"

namespace tunnel::tools {

class Surroundings {
 public:
  Surroundings() = default;
  Surroundings(const Surroundings&) = delete;
  Surroundings& operator=(const Surroundings&) = delete;
  virtual ~Surroundings() = default;

  [[nodiscard]] virtual const std::map<std::string, std::string>& variables() const = 0;
  // This host's own name as the system has it; may be empty.
  [[nodiscard]] virtual std::string HostName() const = 0;
  // The whole file; fails with the reason, naming the file.
  [[nodiscard]] virtual absl::StatusOr<std::string> ReadFile(const std::string& path) const = 0;
  // Whether ReadFile would get at it; the reason if not.
  [[nodiscard]] virtual absl::Status CheckReadable(const std::string& path) const = 0;
  // Whether users who are neither the file's owner nor of its group may read it.
  [[nodiscard]] virtual bool IsWorldReadable(const std::string& path) const = 0;
  [[nodiscard]] virtual bool HasCongestionControl(const std::string& name) const = 0;
};

// This process's own. One thread at a time.
class SystemSurroundings final : public Surroundings {
 public:
  // Takes the variables as they are now.
  SystemSurroundings();

  [[nodiscard]] const std::map<std::string, std::string>& variables() const override { return variables_; }
  [[nodiscard]] std::string HostName() const override;
  [[nodiscard]] absl::StatusOr<std::string> ReadFile(const std::string& path) const override;
  [[nodiscard]] absl::Status CheckReadable(const std::string& path) const override;
  [[nodiscard]] bool IsWorldReadable(const std::string& path) const override;
  [[nodiscard]] bool HasCongestionControl(const std::string& name) const override;

 private:
  std::map<std::string, std::string> variables_;
};

}  // namespace tunnel::tools
