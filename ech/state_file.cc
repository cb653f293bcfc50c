#include "ech/state_file.h"

#include <fcntl.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace tunnel::ech {
namespace {

std::string ErrnoText(int error) { return std::generic_category().message(error); }

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int Close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

absl::StatusOr<StateFile> ReadStateFile(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO that someone put there must not hang the start.
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) {
    if (errno == ENOENT) return NotFound("{}: {}", path.string(), ErrnoText(errno));
    return InvalidArgument("{}: cannot be opened: {}", path.string(), ErrnoText(errno));
  }
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0) return InvalidArgument("{}: {}", path.string(), ErrnoText(errno));
  if (!S_ISREG(info.st_mode)) return InvalidArgument("{}: not a regular file", path.string());
  if (info.st_size > static_cast<off_t>(kStateFileLimitBytes)) {
    return InvalidArgument("{}: {} bytes, more than the {} that are read", path.string(), info.st_size,
                           kStateFileLimitBytes);
  }
  StateFile file;
  file.modified = std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::seconds(info.st_mtim.tv_sec) + std::chrono::nanoseconds(info.st_mtim.tv_nsec)));
  file.readable_by_others = (info.st_mode & (S_IRGRP | S_IROTH)) != 0;
  file.text.resize(static_cast<size_t>(info.st_size));
  size_t filled = 0;
  while (filled < file.text.size()) {
    const ssize_t got = ::read(fd.get(), file.text.data() + filled, file.text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      WipeString(file.text);
      return InvalidArgument("{}: cannot be read: {}", path.string(), ErrnoText(error));
    }
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  file.text.resize(filled);
  return file;
}

absl::Status WriteStateFile(const std::filesystem::path& path, std::string_view text, mode_t mode) {
  uint64_t suffix = 0;
  RAND_bytes(reinterpret_cast<uint8_t*>(&suffix), sizeof(suffix));  // layers: allow, at start
  const std::string temporary = fmt::format("{}.{:016x}.tmp", path.string(), suffix);
  FileDescriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
  if (fd.get() < 0) return InvalidArgument("{}: cannot be made: {}", temporary, ErrnoText(errno));
  // fchmod: open's mode is reduced by the umask. fsync before rename: or a crash leaves an empty file of the new name.
  const bool ok = WriteAll(fd.get(), text) && ::fchmod(fd.get(), mode) == 0 && ::fsync(fd.get()) == 0 &&
                  fd.Close() == 0 && ::rename(temporary.c_str(), path.c_str()) == 0;
  if (!ok) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return InvalidArgument("{}: cannot be written: {}", path.string(), ErrnoText(error));
  }
  const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  const FileDescriptor folder(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems refuse fsync of a folder; the content is safe by then, only the name may be lost in a crash.
  if (folder.get() >= 0) (void)::fsync(folder.get());
  return absl::OkStatus();
}

absl::Status MakeStateDirectory(const std::filesystem::path& directory) {
  std::filesystem::path made;
  for (const std::filesystem::path& part : directory) {
    made /= part;
    if (::mkdir(made.c_str(), S_IRWXU) == 0 || errno == EEXIST) continue;
    const int error = errno;
    // A parent on a read-only file system answers EROFS although it exists.
    std::error_code ignored;
    if (!std::filesystem::is_directory(made, ignored)) {
      return InvalidArgument("{}: cannot be made: {}", made.string(), ErrnoText(error));
    }
  }
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) {
    return InvalidArgument("{}: not a directory", directory.string());
  }
  return absl::OkStatus();
}

void WipeString(std::string& text) {
  text.resize(text.capacity());
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

}  // namespace tunnel::ech
