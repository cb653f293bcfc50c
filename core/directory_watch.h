// Tells when files of a directory have changed (inotify(7)).
#pragma once

#include <absl/functional/any_invocable.h>

#include <memory>
#include <string>

#include "core/descriptor_watch.h"
#include "core/reactor.h"
#include "core/status.h"

namespace tunnel::core {

// Calls `changed`, from the reactor's turn, when a file in the directory was written and closed, came, or went; any
// number of changes at once are one call. Changes that another host makes on a network file system are not seen.
// Owner core only; may be destroyed from inside `changed`.
class DirectoryWatch {
 public:
  DirectoryWatch(Reactor& reactor, std::string path, absl::AnyInvocable<void()> changed);
  DirectoryWatch(const DirectoryWatch&) = delete;
  DirectoryWatch& operator=(const DirectoryWatch&) = delete;
  ~DirectoryWatch();

  // Watches what is at the path now, if that is not watched already. Fails, naming the path, when there is no
  // directory, when inotify's limits are reached, and where the system has no inotify; may then be called again.
  [[nodiscard]] absl::Status Watch();
  // The directory is watched: what was there has not been removed or replaced.
  [[nodiscard]] bool watching() const { return watch_id_ >= 0; }

 private:
  void Read();

  Reactor& reactor_;
  const std::string path_;
  absl::AnyInvocable<void()> changed_;
  int descriptor_ = -1;
  int watch_id_ = -1;
  std::unique_ptr<DescriptorWatch> ready_;
};

// Whether the path is on a file system that other hosts may change, as far as its type tells.
[[nodiscard]] bool IsOnNetworkFileSystem(const std::string& path);

}  // namespace tunnel::core
