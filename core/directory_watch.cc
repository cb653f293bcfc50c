#include "core/directory_watch.h"

#include <linux/magic.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace tunnel::core {
namespace {

constexpr uint32_t kContents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;
constexpr uint32_t kItself = IN_DELETE_SELF | IN_MOVE_SELF;

// Not in every <linux/magic.h>.
constexpr std::array<uint32_t, 10> kNetworkFileSystems = {NFS_SUPER_MAGIC,       SMB_SUPER_MAGIC,
                                                          0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */,
                                                          0x01021997 /* 9P */,   0x00c36400 /* Ceph */,
                                                          0x65735546 /* FUSE */, 0x5346414f /* AFS */,
                                                          0x73757245 /* Coda */, 0x0bd00bd0 /* Lustre */};

std::string WordsFor(int error) { return std::generic_category().message(error); }

}  // namespace

DirectoryWatch::DirectoryWatch(Reactor& reactor, std::string path, absl::AnyInvocable<void()> changed)
    : reactor_(reactor), path_(std::move(path)), changed_(std::move(changed)) {}

DirectoryWatch::~DirectoryWatch() {
  ready_.reset();
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status DirectoryWatch::Watch() {
  if (watching()) return absl::OkStatus();
  if (descriptor_ < 0) {
    descriptor_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (descriptor_ < 0) return Unavailable("{}: changes cannot be watched: {}", path_, WordsFor(errno));
    ready_ = std::make_unique<DescriptorWatch>(reactor_, descriptor_, [this](uint32_t) { Read(); });
    ready_->Watch(EPOLLIN);
  }
  watch_id_ = inotify_add_watch(descriptor_, path_.c_str(), kContents | kItself | IN_ONLYDIR);
  if (watch_id_ < 0) return Unavailable("{}: changes cannot be watched: {}", path_, WordsFor(errno));
  return absl::OkStatus();
}

void DirectoryWatch::Read() {
  alignas(inotify_event) std::array<char, 4096> buffer;
  bool any = false;
  for (;;) {
    const ssize_t got = read(descriptor_, buffer.data(), buffer.size());
    if (got <= 0) break;
    for (size_t at = 0; at + sizeof(inotify_event) <= static_cast<size_t>(got);) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof(event));
      at += sizeof(event) + event.len;
      // Of a watch that was given up something may still be on its way.
      const bool ours = event.wd == watch_id_;
      if (ours && (event.mask & (kItself | IN_IGNORED)) != 0) {
        if ((event.mask & IN_IGNORED) == 0) (void)inotify_rm_watch(descriptor_, watch_id_);
        watch_id_ = -1;
      }
      any |= ours || (event.mask & IN_Q_OVERFLOW) != 0;
    }
  }
  if (any) changed_();
}

bool IsOnNetworkFileSystem(const std::string& path) {
  struct statfs info{};
  if (statfs(path.c_str(), &info) != 0) return false;
  return std::ranges::find(kNetworkFileSystems, static_cast<uint32_t>(info.f_type)) != kNetworkFileSystems.end();
}

}  // namespace tunnel::core
