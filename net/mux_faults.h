// Bugs of mux/2 that the simulation plants, to see that its checks would find them (docs/testing.md, "Simulation").
// Nothing that a user can configure leads here: in the program there are none, and what asks does so where a stream
// moves or sends CREDIT, never for a byte.
#pragma once

#include <cstdint>

namespace tunnel::net {

enum class MuxBug : uint8_t {
  kDropRetained,  // a stream goes on elsewhere, and the first piece that it is to send again is taken for sent
  // The CREDIT that says that FIN was delivered counts as sent and is not. What any other says, the next one says too.
  kSkipCredit,
};

class MuxBugs {
 public:
  // Whether `bug` is to happen here and now. On the thread that runs the stream.
  [[nodiscard]] virtual bool Strikes(MuxBug bug) = 0;

 protected:
  ~MuxBugs() = default;
};

// nullptr: none. Set before there is any session, by a program whose sessions all run on one thread.
inline constinit MuxBugs* planted_mux_bugs = nullptr;

[[nodiscard]] inline bool MuxBugStrikes(MuxBug bug) {
  return planted_mux_bugs != nullptr && planted_mux_bugs->Strikes(bug);
}

}  // namespace tunnel::net
