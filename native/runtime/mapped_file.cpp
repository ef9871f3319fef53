#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <sys/utsname.h>
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; the headers may be older
#endif
#endif

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "error.h"
#include "huge_pages.h"

namespace alma {
namespace {

size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

#if defined(__linux__)
// Linux 5.18 and later read a mapping of which huge pages are wanted two MiB at a time, into one page where the file system can.
// What it reads ahead of that comes in small pages, and is not needed: MADV_RANDOM. Older ones would read page by page then.
bool reads_huge_pages() {
  static const bool does = [] {
    utsname system{};
    int major = 0, minor = 0;
    return uname(&system) == 0 && std::sscanf(system.release, "%d.%d", &major, &minor) == 2 &&
           (major > 5 || (major == 5 && minor >= 18));
  }();
  return does;
}
#endif

#if defined(SYS_preadv2) && defined(RWF_NOWAIT)
bool is_resident(char* byte) {
  unsigned char resident = 0;
  return mincore(byte - reinterpret_cast<uintptr_t>(byte) % page_size(), 1, &resident) == 0 && (resident & 1) != 0;
}

bool reads_at_once(int file, uint64_t offset) {
  char byte = 0;
  iovec to{&byte, 1};
  // Low and high half of the offset: the latter counts where a long has 32 bits.
  return syscall(SYS_preadv2, file, &to, 1L, static_cast<long>(offset), static_cast<long>(offset >> 16 >> 16),
                 RWF_NOWAIT) == 1;
}
#endif

// Whether the system has this part of the file, mapped at `data`, in memory, as samples tell.
bool is_cached([[maybe_unused]] int file, [[maybe_unused]] const struct stat& status,
               [[maybe_unused]] const std::string& path, [[maybe_unused]] uint64_t offset, [[maybe_unused]] char* data,
               [[maybe_unused]] size_t bytes) {
#if defined(SYS_preadv2) && defined(RWF_NOWAIT)
  // Of somebody else's file, mincore says that all of it is there. An attempt to read tells the truth, but may begin to read ahead,
  // which leaves small pages.
  const bool may_ask = status.st_uid == geteuid() || faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0;
  constexpr size_t kStep = size_t{1} << 20;
  for (size_t i = 0; i < bytes / kStep + 2; i++) {
    const size_t at = std::min(i * kStep, bytes - 1);
    if (!(may_ask ? is_resident(data + at) : reads_at_once(file, offset + at))) return false;
  }
  return true;
#else
  return false;
#endif
}

}  // namespace

MappedFile::MappedFile(const std::string& path, uint64_t offset, size_t bytes) : path_(path), bytes_(bytes) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Error("ERR_ALMA_IO", "cannot open " + path + ": " + std::strerror(errno));
  struct stat status {};
  const bool known = fstat(file, &status) == 0;
  const uint64_t size = known ? static_cast<uint64_t>(status.st_size) : 0;
  // Touching pages behind the end of a file is a SIGBUS, so the length is checked against what the file has now.
  if (!known || offset > size || bytes > size - offset) {
    close(file);
    throw Error("ERR_ALMA_CHECKPOINT", path + ": expected " + std::to_string(bytes) + " bytes at offset " +
                                           std::to_string(offset) + ", the file has " + std::to_string(size) +
                                           " bytes");
  }
  if (bytes > 0) {
    // A large mapping begins and ends with huge pages, so that it loses none at its edges where the file lies in memory so.
    const uint64_t page = std::max<uint64_t>(page_size(), bytes < kHugePage ? 0 : kHugePage);
    const uint64_t start = offset / page * page, end = (offset + bytes + page - 1) / page * page;
    length_ = static_cast<size_t>(end - start);
    base_ = mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, static_cast<off_t>(start));
    if (base_ == MAP_FAILED) {
      const std::string reason = std::strerror(errno);
      base_ = nullptr;
      close(file);
      throw Error("ERR_ALMA_IO", "cannot map " + path + ": " + reason);
    }
    data_ = static_cast<char*>(base_) + (offset - start);
    was_cached_ = is_cached(file, status, path, offset, data_, bytes);
#if defined(__linux__)
    // What is read from the disk in huge pages has a five-hundredth of the page faults in every pass over it and in every later load.
    fetches_huge_pages_ =
        reads_huge_pages() && madvise(base_, length_, MADV_HUGEPAGE) == 0 && madvise(base_, length_, MADV_RANDOM) == 0;
#endif
  }
  close(file);
}

MappedFile::~MappedFile() {
  if (base_ != nullptr) munmap(base_, length_);
}

void MappedFile::fetch(size_t begin, size_t count) const {
  begin = std::min(begin, bytes_);
  count = std::min(count, bytes_ - begin);
  if (count == 0) return;
  const size_t before = reinterpret_cast<uintptr_t>(data_ + begin) % page_size();
  char* const from = data_ + begin - before;
#if defined(__linux__)
  if (fetches_huge_pages_) {
    int result = 0;
    do result = madvise(from, before + count, MADV_POPULATE_READ);
    while (result != 0 && (errno == EINTR || errno == EAGAIN));
    if (result != 0 && (errno == EFAULT || errno == EHWPOISON))
      throw Error("ERR_ALMA_IO", "cannot read " + path_ + ": the disk failed, or the file has become shorter");
    return;
  }
#endif
  madvise(from, before + count, MADV_WILLNEED);
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(base_, other.base_);
  std::swap(length_, other.length_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(was_cached_, other.was_cached_);
  std::swap(fetches_huge_pages_, other.fetches_huge_pages_);
  return *this;
}

}  // namespace alma
