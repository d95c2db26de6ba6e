using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace KvNode.Native;

/// <summary>
/// The few system calls that .NET does not offer or does not report truthfully.
/// </summary>
/// <remarks>
/// .NET's own flush calls (<c>RandomAccess.FlushToDisk</c>, <c>FileStream.Flush(true)</c>) lose the error of a failed
/// fsync, so every durability promise of KvNode goes through here. The symbols are looked up in the main program's
/// handle and not in libc's: only that lookup passes through the dynamic linker's global scope, so a fault injector
/// loaded with LD_PRELOAD is seen. All methods may be called from any thread.
/// </remarks>
internal static unsafe class Libc
{
    private const int Eintr = 4;
    private const int OpenReadOnlyDirectory = 0x10000 | 0x80000; // O_RDONLY | O_DIRECTORY | O_CLOEXEC
    private const int ProtReadWrite = 3;
    private const int MapPrivateAnonymous = 0x22;
    private const int LockExclusiveNonBlocking = 2 | 4;
    private const int FutexWaitPrivate = 0 | 128;
    private const int FutexWakePrivate = 1 | 128;

    private static readonly nint FutexCall = RuntimeInformation.ProcessArchitecture switch
    {
        Architecture.X64 => 202,
        Architecture.Arm64 => 98,
        var other => throw new PlatformNotSupportedException($"the number of futex(2) on {other} is not known"),
    };

    private static readonly delegate* unmanaged<int, int> FdatasyncPointer =
        (delegate* unmanaged<int, int>)Export("fdatasync");

    private static readonly delegate* unmanaged<int, int> FsyncPointer =
        (delegate* unmanaged<int, int>)Export("fsync");

    private static readonly delegate* unmanaged<byte*, int, int> OpenPointer =
        (delegate* unmanaged<byte*, int, int>)Export("open");

    private static readonly delegate* unmanaged<int, int> ClosePointer =
        (delegate* unmanaged<int, int>)Export("close");

    private static readonly delegate* unmanaged<int, int, int> FlockPointer =
        (delegate* unmanaged<int, int, int>)Export("flock");

    private static readonly delegate* unmanaged<void*, nuint, int, int, int, long, void*> MmapPointer =
        (delegate* unmanaged<void*, nuint, int, int, int, long, void*>)Export("mmap");

    private static readonly delegate* unmanaged<void*, nuint, int> MunmapPointer =
        (delegate* unmanaged<void*, nuint, int>)Export("munmap");

    private static readonly delegate* unmanaged<nint, void*, nint, nint, void*, nint> SyscallPointer =
        (delegate* unmanaged<nint, void*, nint, nint, void*, nint>)Export("syscall");

    private static readonly delegate* unmanaged<int*> ErrnoPointer =
        (delegate* unmanaged<int*>)Export("__errno_location");

    /// <summary>Sleeps while the word has a value, until woken or the time is up; -1: no limit. Returns without a reason, too:
    /// futex(2), FUTEX_WAIT.</summary>
    public static void FutexWait(int* word, int whileIs, int milliseconds)
    {
        var time = stackalloc long[] { milliseconds / 1000, milliseconds % 1000 * 1_000_000L };
        _ = SyscallPointer(FutexCall, word, FutexWaitPrivate, whileIs, milliseconds < 0 ? null : time);
    }

    /// <summary>Wakes one who sleeps on the word: futex(2), FUTEX_WAKE.</summary>
    public static void FutexWake(int* word) => _ = SyscallPointer(FutexCall, word, FutexWakePrivate, 1, null);

    /// <summary>Makes the file's data (and the metadata needed to read it) durable: fdatasync(2).</summary>
    /// <exception cref="SyncFailedException">The kernel reported an error. What was written may be lost; the caller
    /// must stop acknowledging and must not try again on this file.</exception>
    public static void SyncData(SafeFileHandle file, string path) => Sync(FdatasyncPointer, file, path, "fdatasync");

    /// <summary>Makes the file and all its metadata durable: fsync(2).</summary>
    /// <exception cref="SyncFailedException">As for <see cref="SyncData"/>.</exception>
    public static void SyncAll(SafeFileHandle file, string path) => Sync(FsyncPointer, file, path, "fsync");

    /// <summary>Makes creations, renames and removals in a directory durable: fsync(2) on the directory.</summary>
    /// <exception cref="SyncFailedException">As for <see cref="SyncData"/>.</exception>
    public static void SyncDirectory(string path)
    {
        int fd;
        fixed (byte* name = PathBytes(path))
        {
            while ((fd = OpenPointer(name, OpenReadOnlyDirectory)) < 0)
            {
                var error = *ErrnoPointer();
                if (error != Eintr)
                {
                    throw new SyncFailedException("open", path, error);
                }
            }
        }

        try
        {
            Sync(FsyncPointer, fd, path, "fsync");
        }
        finally
        {
            _ = ClosePointer(fd);
        }
    }

    /// <summary>Takes an exclusive flock(2) without waiting. It lasts until the handle is closed or the process ends.</summary>
    /// <returns>False when another open file holds the lock.</returns>
    public static bool TryLockExclusive(SafeFileHandle file)
    {
        while (FlockPointer((int)file.DangerousGetHandle(), LockExclusiveNonBlocking) < 0)
        {
            if (*ErrnoPointer() != Eintr)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Fresh zeroed memory straight from the kernel, so that giving it back really shrinks the process.</summary>
    /// <exception cref="Win32Exception">The kernel refused.</exception>
    public static byte* MapMemory(nuint bytes)
    {
        var memory = MmapPointer(null, bytes, ProtReadWrite, MapPrivateAnonymous, -1, 0);
        return (nint)memory == -1 ? throw new Win32Exception(*ErrnoPointer(), $"mmap of {bytes} bytes failed") : (byte*)memory;
    }

    /// <summary>Gives back what <see cref="MapMemory"/> handed out; same address, same size.</summary>
    public static void UnmapMemory(byte* memory, nuint bytes) => _ = MunmapPointer(memory, bytes);

    private static void Sync(delegate* unmanaged<int, int> call, SafeFileHandle file, string path, string name)
    {
        var added = false;
        try
        {
            file.DangerousAddRef(ref added);
            Sync(call, (int)file.DangerousGetHandle(), path, name);
        }
        finally
        {
            if (added)
            {
                file.DangerousRelease();
            }
        }
    }

    private static void Sync(delegate* unmanaged<int, int> call, int fd, string path, string name)
    {
        while (call(fd) != 0)
        {
            var error = *ErrnoPointer();
            if (error != Eintr)
            {
                throw new SyncFailedException(name, path, error);
            }
        }
    }

    private static nint Export(string name) => NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), name);

    private static byte[] PathBytes(string path) => System.Text.Encoding.UTF8.GetBytes(path + '\0');
}

/// <summary>A sync call failed: data believed written may be gone. Fatal for the node, never retried.</summary>
internal sealed class SyncFailedException(string call, string path, int error)
    : IOException($"{call} of '{path}' failed: {new Win32Exception(error).Message} (errno {error})", error)
{
    /// <summary>The errno value the kernel gave.</summary>
    public int Error { get; } = error;
}
