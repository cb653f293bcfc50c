#include "core/socket_file.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <functional>

namespace tunnel::core {
namespace {

constexpr mode_t kSocketFileMode = 0600;

// Keeps other processes that bind the same path away while it lives, by a name in the abstract namespace: nothing is
// left behind and nobody waits. Without it a file is bound all the same, but none is replaced.
class PathLock {
 public:
  explicit PathLock(const std::string& path) : descriptor_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    if (descriptor_ < 0) return;
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string text = fmt::format("ech-tunnel {:016x}", std::hash<std::string>()(path));
    text.copy(name.sun_path + 1, sizeof(name.sun_path) - 1);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    held_ = bind(descriptor_, reinterpret_cast<const sockaddr*>(&name), length) == 0;
  }
  PathLock(const PathLock&) = delete;
  PathLock& operator=(const PathLock&) = delete;
  ~PathLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  [[nodiscard]] bool held() const { return held_; }

 private:
  const int descriptor_;
  bool held_ = false;
};

// Whether the file is a socket that nobody listens on.
bool IsStale(const SocketAddress& address, const std::string& path) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (probe < 0) return false;
  const bool refused = connect(probe, address.kernel(), address.kernel_length()) != 0 && errno == ECONNREFUSED;
  close(probe);
  return refused;
}

}  // namespace

IoError BindSocketFile(int descriptor, const SocketAddress& address, SocketFile& file) {
  file.path = std::string(address.unix_path());
  const PathLock lock(file.path);
  // On Linux the file takes the mode that the socket has when it is bound, so it is private from its first moment.
  if (fchmod(descriptor, kSocketFileMode) != 0) return FromErrno(errno);
  if (bind(descriptor, address.kernel(), address.kernel_length()) != 0) {
    if (errno != EADDRINUSE) return FromErrno(errno);
    if (!lock.held() || !IsStale(address, file.path) || unlink(file.path.c_str()) != 0) return IoError::kAddressInUse;
    if (bind(descriptor, address.kernel(), address.kernel_length()) != 0) return FromErrno(errno);
  }
  struct stat info = {};
  if (lstat(file.path.c_str(), &info) != 0) return FromErrno(errno);
  file.device = info.st_dev;
  file.inode = info.st_ino;
  if (listen(descriptor, kListenBacklog) != 0) {
    const IoError error = FromErrno(errno);
    RemoveSocketFile(file);
    return error;
  }
  return IoError::kOk;
}

void RemoveSocketFile(const SocketFile& file) {
  struct stat info = {};
  if (lstat(file.path.c_str(), &info) != 0 || info.st_dev != file.device || info.st_ino != file.inode) return;
  (void)unlink(file.path.c_str());
}

}  // namespace tunnel::core
