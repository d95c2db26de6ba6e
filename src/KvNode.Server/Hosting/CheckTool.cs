using KvNode.Raft;
using KvNode.Raft.Snapshots;
using KvNode.Raft.Wal;
using KvNode.Storage;

namespace KvNode.Server.Hosting;

/// <summary>
/// <c>kvnode check DIR</c>: reads everything a stopped node has on disk and says what it found, a fact a line. Changes
/// nothing but the lock files, which keep a node from starting meanwhile.
/// </summary>
/// <remarks>The last line is <c>sound</c> or <c>damaged</c>. LMDB keeps no checksums: a damaged page that is still well formed
/// shows only where one of our own rules is broken.</remarks>
internal static class CheckTool
{
    /// <returns>The process's exit code.</returns>
    /// <exception cref="DirectoryNotFoundException">There is nothing of a node there.</exception>
    /// <exception cref="DirectoryLockedException">A node, or another check, is running on it.</exception>
    public static int Run(string dataDirectory, string logDirectory, TextWriter output)
    {
        if (!Directory.Exists(dataDirectory))
        {
            throw new DirectoryNotFoundException($"there is no directory '{dataDirectory}'");
        }

        if (!WalInspector.HasLog(logDirectory))
        {
            throw new DirectoryNotFoundException($"no node keeps its log in '{logDirectory}': if it is elsewhere, say --log-dir");
        }

        using var dataLock = DirectoryLock.Acquire(dataDirectory);
        using var logLock = NodeOptions.IsSameDirectory(dataDirectory, logDirectory) ? null : DirectoryLock.Acquire(logDirectory);

        var storeReport = Store.Verify(dataDirectory);
        var storeIsSound = storeReport.Findings.Count == 0;
        var applied = storeIsSound ? new EntryId(storeReport.AppliedTerm, storeReport.AppliedIndex) : (EntryId?)null;
        // After a crash right behind the install of a received snapshot the log has not heard of it yet.
        var installed = new EntryId(storeReport.InstalledTerm, storeReport.InstalledIndex);
        var logReport = WalInspector.Inspect(logDirectory, applied, installed: applied == installed);
        var snapshots = SnapshotDirectory.VerifyAll(SnapshotFolder.Root(logDirectory));

        WriteStore(storeReport, output);
        foreach (var finding in logReport.Findings)
        {
            output.WriteLine(finding);
        }

        var isSound = WriteSnapshots(snapshots, output) & storeIsSound & logReport.Sound;
        output.WriteLine(isSound ? "sound" : "damaged");
        return isSound ? ExitCodes.Ok : ExitCodes.BadData;
    }

    private static void WriteStore(DiskVerifyReport report, TextWriter output)
    {
        foreach (var finding in report.Findings)
        {
            output.WriteLine($"store: {finding}");
        }

        output.WriteLine(
            $"store: {report.Keys} keys, up to entry {new EntryId(report.AppliedTerm, report.AppliedIndex)}, in {report.FileBytes} bytes");
    }

    private static bool WriteSnapshots(IReadOnlyList<SnapshotCheck> snapshots, TextWriter output)
    {
        var isSound = true;
        foreach (var snapshot in snapshots)
        {
            isSound &= snapshot.Problem is null;
            output.WriteLine(
                snapshot is { Problem: null, Info: { } info }
                    ? $"snapshot {snapshot.Id}: {info.Count} keys in {info.Size} bytes"
                    : $"snapshot {snapshot.Id}: {snapshot.Problem}");
        }

        return isSound;
    }
}
