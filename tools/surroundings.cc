#include "tools/surroundings.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>  // layers: allow, flags are tried on a socket at start
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "ech/state_file.h"

namespace tunnel::tools {

SystemSurroundings::SystemSurroundings() {
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    variables_.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
}

std::string SystemSurroundings::HostName() const {
  std::array<char, 256> name{};  // HOST_NAME_MAX is 64; zero-terminated even when cut
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

absl::StatusOr<std::string> SystemSurroundings::ReadFile(const std::string& path) const {
  absl::StatusOr<ech::StateFile> file = ech::ReadStateFile(path);
  if (!file.ok()) return file.status();
  return std::move(file->text);
}

absl::Status SystemSurroundings::CheckReadable(const std::string& path) const {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0 || access(path.c_str(), R_OK) != 0) {
    return NotFound("{}", std::generic_category().message(errno));
  }
  if (!S_ISREG(info.st_mode)) return InvalidArgument("not a regular file");
  return absl::OkStatus();
}

bool SystemSurroundings::IsWorldReadable(const std::string& path) const {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 && (info.st_mode & S_IROTH) != 0;
}

bool SystemSurroundings::HasCongestionControl(const std::string& name) const {
  // Asking loads the module where we may, which reading the list of those available would not.
  const int socket_descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket_descriptor < 0) return false;
  const bool taken = setsockopt(socket_descriptor, IPPROTO_TCP, TCP_CONGESTION, name.c_str(),
                                static_cast<socklen_t>(name.size())) == 0;
  close(socket_descriptor);
  return taken;
}

}  // namespace tunnel::tools
