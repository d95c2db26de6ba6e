using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using KvNode.Raft;

namespace KvNode.Server.Hosting;

/// <summary>
/// Ends the process at once when the engine or the store cannot go on: a failed sync, a damaged file, a broken
/// invariant. Nothing is acknowledged after that.
/// </summary>
internal sealed partial class FatalExit
{
    // Standard error may be a pipe that nobody reads; the node ends all the same.
    private const int MessageMillisecondsMax = 500;

    private int _ended;

    /// <summary>Any thread; does not return.</summary>
    [DoesNotReturn]
    public void End(Exception cause)
    {
        if (Interlocked.Exchange(ref _ended, 1) == 1)
        {
            // Another thread is ending the process already.
            Thread.Sleep(Timeout.Infinite);
        }

        // A running node meets an I/O error only where data is written or synced: whatever it covered is in doubt.
        var exitCode = cause is IOException and not LogCorruptException ? ExitCodes.SyncFailed : Failure.Of(cause).ExitCode;
        var text = Text(cause, exitCode);
        var message = new Thread(() => Console.Error.WriteLine(text))
        {
            IsBackground = true,
            Name = "fatal",
        };
        message.Start();
        message.Join(MessageMillisecondsMax);

        // Not Environment.Exit: that runs the handlers of a clean stop, and this is none.
        ExitNow(exitCode);
    }

    /// <summary>Where the cluster says no, or the disk holds something else than it should, there is nothing to look for in a
    /// stack.</summary>
    internal static string Text(Exception cause, int exitCode) =>
        $"kvnode: fatal: {cause.Message} (exit code {exitCode})"
        + (exitCode is ExitCodes.JoinRefused or ExitCodes.Removed or ExitCodes.BadData ? "" : $"\n{cause}");

    [LibraryImport("libc", EntryPoint = "_exit")]
    [DoesNotReturn]
    private static partial void ExitNow(int code);
}
