using System.ComponentModel;
using System.Runtime.InteropServices;

namespace KvNode.Testing;

/// <summary>The few system calls tests need and .NET lacks.</summary>
public static partial class Native
{
    public const int SignalInterrupt = 2;
    public const int SignalKill = 9;
    public const int SignalTerminate = 15;
    public const int SignalContinue = 18;
    public const int SignalStop = 19;

    private const int ResourceOpenFiles = 7;

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
