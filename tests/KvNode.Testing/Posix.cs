using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace KvNode.Testing;

/// <summary>The few system calls tests need and .NET lacks.</summary>
public static partial class Posix
{
    public const int SignalInterrupt = 2;
    public const int SignalKill = 9;
    public const int SignalTerminate = 15;
    public const int SignalContinue = 18;
    public const int SignalStop = 19;

    private const int ResourceOpenFiles = 7;
    private const int OpenWriteOnly = 1;
    private const int OpenReadWrite = 2;
    private const int OpenCreate = 0x40;
    private const int OpenAppendFlag = 0x400;
    private const int OpenNonBlocking = 0x800;
    private const int OpenCloseOnExec = 0x80000;

    /// <summary>kill(2); a process that is already gone is not an error.</summary>
    public static void Signal(int pid, int signal)
    {
        if (kill(pid, signal) != 0 && Marshal.GetLastPInvokeError() is var error && error != 3)
        {
            throw new Win32Exception(error, $"kill({pid}, {signal}) failed");
        }
    }

    public static uint EffectiveUserId() => geteuid();

    public static void MakeFifo(string path)
    {
        if (mkfifo(path, 0x180) != 0)
        {
            throw new Win32Exception(Marshal.GetLastPInvokeError(), $"mkfifo {path} failed");
        }
    }

    /// <summary>Raises this process's soft limit of open files to its hard limit, which children inherit.</summary>
    /// <returns>The limit now in force.</returns>
    public static long RaiseOpenFileLimit()
    {
        if (getrlimit(ResourceOpenFiles, out var limit) != 0)
        {
            throw new Win32Exception(Marshal.GetLastPInvokeError());
        }

        var raised = limit with { Soft = limit.Hard };
        return setrlimit(ResourceOpenFiles, in raised) == 0 ? (long)limit.Hard : (long)limit.Soft;
    }

    /// <summary>Appends to a file in one write(2) with O_APPEND, so that it stands whole between others' records.</summary>
    /// <remarks>.NET's FileMode.Append only seeks to the end once.</remarks>
    public static void AppendAtOnce(SafeFileHandle file, ReadOnlySpan<byte> record)
    {
        if (write(file, record, (nuint)record.Length) != record.Length)
        {
            throw new Win32Exception(Marshal.GetLastPInvokeError(), "append failed");
        }
    }

    /// <summary>Opens for <see cref="AppendAtOnce"/>; the file is made when missing.</summary>
    public static SafeFileHandle OpenAppend(string path) => Open(path, OpenWriteOnly | OpenCreate | OpenAppendFlag | OpenCloseOnExec);

    /// <summary>
    /// Opens a named pipe for reading and writing and fills it, so that the next writer blocks (or, reading it,
    /// empties it).
    /// </summary>
    public static SafeFileHandle FillFifo(string path)
    {
        var pipe = Open(path, OpenReadWrite | OpenNonBlocking | OpenCloseOnExec);
        var page = new byte[4096];
        while (write(pipe, page, (nuint)page.Length) > 0)
        {
            // Until the kernel says it is full.
        }

        // A last few bytes may still fit where a page does not.
        while (write(pipe, page, 1) > 0)
        {
        }

        return pipe;
    }

    private static SafeFileHandle Open(string path, int flags)
    {
        var file = open(path, flags, 0x1a4);
        return file.IsInvalid
            ? throw new Win32Exception(Marshal.GetLastPInvokeError(), $"open {path} failed")
            : file;
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial SafeFileHandle open(string path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(SafeFileHandle file, ReadOnlySpan<byte> bytes, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);

    [LibraryImport("libc")]
    private static partial uint geteuid();

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int mkfifo(string path, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int getrlimit(int resource, out ResourceLimit limit);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setrlimit(int resource, in ResourceLimit limit);

    [StructLayout(LayoutKind.Sequential)]
    private record struct ResourceLimit
    {
        public ulong Soft;
        public ulong Hard;
    }
}
