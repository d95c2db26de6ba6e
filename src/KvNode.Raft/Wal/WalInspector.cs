namespace KvNode.Raft.Wal;

/// <summary>What an offline check of a log found.</summary>
/// <param name="Sound">A node would start with it. Findings may still tell of a torn tail, which a start cuts.</param>
/// <param name="Findings">For people, one fact a line.</param>
/// <param name="Last">The last entry; index 0 for an empty or a damaged log.</param>
public sealed record WalReport(bool Sound, IReadOnlyList<string> Findings, EntryId Last);

/// <summary>Checks the log of a stopped node. Changes nothing.</summary>
public static class WalInspector
{
    /// <summary>Whether there is a log at all.</summary>
    /// <param name="logDirectory">As given to the engine.</param>
    public static bool HasLog(string logDirectory) => Directory.Exists(WalFormat.Folder(logDirectory));

    /// <param name="logDirectory">As given to the engine: the one that has <c>wal</c> in it.</param>
    /// <param name="applied">What the store says it has applied, to be compared; null if it is not known.</param>
    /// <param name="installed">The store notes that it took over a snapshot of exactly that position: then a log that does
    /// not have it yet is restarted there by the next start.</param>
    /// <exception cref="IOException">The files cannot be read, or there are none.</exception>
    public static WalReport Inspect(string logDirectory, EntryId? applied, bool installed = false)
    {
        var disk = FileDisk.OpenExisting(WalFormat.Folder(logDirectory));
        return Inspect(disk, applied, installed);
    }

    internal static WalReport Inspect(IDisk disk, EntryId? applied, bool installed = false)
    {
        var findings = new List<string>();
        try
        {
            var image = WalRecovery.Inspect(disk);
            Describe(image, findings);
            var sound = applied is not { } entry || IsContinuedBy(disk, image, entry, installed, findings);
            return new WalReport(sound, findings, image.Last);
        }
        catch (LogCorruptException e)
        {
            findings.Add(e.Message);
            return new WalReport(Sound: false, findings, default);
        }
    }

    /// <summary>
    /// Whether a start restarts the log at the snapshot that the store took over last and has applied nothing after. Not if
    /// more than that is known to be committed: such a log is not behind the store, it has lost what the store needs.
    /// </summary>
    internal static bool IsRestartedAt(EntryId installed, bool isInLog, ulong commit) =>
        !isInLog && installed.Index > 0 && installed.Index >= commit;

    private static void Describe(WalImage image, List<string> findings)
    {
        var bytes = 0L;
        foreach (var segment in image.Used)
        {
            bytes += segment.Bytes;
        }

        findings.Add(
            $"log: {image.Used.Count} segments in use ({bytes} bytes), {image.Blank.Count} ready, "
            + $"{image.Spares.Count} spare, {image.Drafts.Count} unfinished");
        findings.Add(
            image.Last.Index < image.FirstIndex
                ? $"log: no entries, the next one is {image.Last.Index + 1}"
                : $"log: {image.Entries} entries, {image.FirstIndex} to {image.Last}, in {image.Frames} frames");
        if ((ulong)image.EntriesWritten > image.Entries)
        {
            findings.Add($"log: {(ulong)image.EntriesWritten - image.Entries} entries in it were replaced");
        }

        findings.Add(
            $"log: term {image.HardState.Term}, vote {image.HardState.Vote}, committed at least to {image.Commit}");
        if (image.TornTail is { } torn)
        {
            findings.Add($"log: the last write was interrupted, the next start cuts it off: {torn}");
        }
    }

    private static bool IsContinuedBy(
        IDisk disk, WalImage image, EntryId applied, bool installed, List<string> findings)
    {
        if (installed && IsRestartedAt(applied, image.Contains(applied), image.Commit))
        {
            findings.Add(
                $"log: ends at {image.Last}, the store took over a snapshot of {applied}: the log restarts there at the next start");
            return true;
        }

        try
        {
            WalReplay.CheckFits(image.Map, applied);
            WalReplay.Run(disk, image, applied.Index, static _ => { });
            findings.Add($"log: continues the store, which has applied {applied}");
            return true;
        }
        catch (LogCorruptException e)
        {
            findings.Add(e.Message);
            return false;
        }
    }
}
