// The file of a listening Unix socket: made private, never stolen from somebody who listens, removed when it is ours.
#pragma once

#include <sys/types.h>

#include <string>

#include "core/io_error.h"
#include "core/socket_address.h"

namespace tunnel::core {

// Connections that the kernel keeps for a listener that has not accepted them yet.
inline constexpr int kListenBacklog = 4096;

// A file that was made, by the identity it had then.
struct SocketFile {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
};

// Binds `descriptor` to the path of `address` with mode 0600 and listens. A socket file that is there and that nobody
// listens on is replaced; one that somebody does, and whatever is no socket, is kAddressInUse. Of two processes
// that do this at once one gets the file and the other kAddressInUse. Does not wait.
[[nodiscard]] IoError BindSocketFile(int descriptor, const SocketAddress& address, SocketFile& file);

// Removes the file unless another one has taken its place. The socket must still listen, so that nobody takes the file
// for a stale one meanwhile.
void RemoveSocketFile(const SocketFile& file);

}  // namespace tunnel::core
