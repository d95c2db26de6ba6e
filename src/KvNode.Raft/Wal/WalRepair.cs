namespace KvNode.Raft.Wal;

/// <summary>Makes a log that was found sound fit for appending again.</summary>
internal static class WalRepair
{
    /// <summary>
    /// Changes the files, and the image where it says what is dirty. May be interrupted and run again.
    /// </summary>
    public static void Run(IDisk disk, WalOptions options, WalImage image)
    {
        if (image.Used.Count > 0)
        {
            using var file = disk.Open(WalFormat.SegmentName(image.Used[^1].Id));
            Rewrite(file, image.UnprovenFrom, image.End);
            SegmentPool.WriteZeros(file, image.End, image.DirtyEnd);
        }

        for (var i = 0; i < image.Blank.Count; i++)
        {
            var blank = image.Blank[i];
            using var file = disk.Open(WalFormat.SegmentName(blank.Id));
            SegmentPool.WriteZeros(file, 0, blank.DirtyEnd);
            image.Blank[i] = blank with { DirtyEnd = 0 };
        }

        image.DirtyEnd = image.End;
        RemoveLeftovers(disk, options, image);
    }

    /// <summary>
    /// Writes the same bytes again, so that the sync that follows is about them even if an earlier one failed: the
    /// kernel then calls pages clean that never reached the disk.
    /// </summary>
    private static void Rewrite(IDiskFile file, long from, long to)
    {
        var bytes = (int)Math.Min(WalRecovery.WindowBytes, to - from);
        var window = GC.AllocateUninitializedArray<byte>(bytes);
        while (from < to)
        {
            var part = window.AsSpan(0, (int)Math.Min(window.Length, to - from));
            Invariant.Check(file.Read(from, part) == part.Length);
            file.Write(from, part);
            from += part.Length;
        }
    }

    private static void RemoveLeftovers(IDisk disk, WalOptions options, WalImage image)
    {
        foreach (var id in image.Drafts)
        {
            disk.Delete(WalFormat.DraftName(id));
        }

        image.Drafts.Clear();
        var kept = 0;
        for (var i = 0; i < image.Spares.Count; i++)
        {
            var id = image.Spares[i];
            var name = WalFormat.SpareName(id);
            if (kept < options.SparesMax && LengthOf(disk, name) == options.SegmentBytes)
            {
                image.Spares[kept++] = id;
            }
            else
            {
                disk.Delete(name);
            }
        }

        image.Spares.RemoveRange(kept, image.Spares.Count - kept);
    }

    private static long LengthOf(IDisk disk, string name)
    {
        using var file = disk.Open(name, readOnly: true);
        return file.Length;
    }
}
