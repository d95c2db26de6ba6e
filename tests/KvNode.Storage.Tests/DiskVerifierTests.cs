using KvNode.Storage.Lmdb;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>Each kind of damage is done through LMDB itself and must be named; sound data must pass.</summary>
public sealed class DiskVerifierTests
{
    private static readonly DiskOptions Options = new() { MapBytes = 64L << 20, MapBytesFloor = 1L << 20 };

    [Fact]
    public void SoundDataPassesAndIsCounted()
    {
        using var directory = Sound();
        var before = File.ReadAllBytes(Path.Combine(directory.Path, "data.mdb"));
        var report = DiskVerifier.Verify(directory.Path);
        Assert.Empty(report.Findings);
        Assert.Equal((5, 42ul, 3ul), (report.Keys, report.AppliedIndex, report.AppliedTerm));
        Assert.Equal(before.Length, report.FileBytes);
        Assert.Equal(before, File.ReadAllBytes(Path.Combine(directory.Path, "data.mdb")));
    }

    [Fact]
    public void BucketWithoutALinkIsFound() =>
        Finds("bucket 9 exists but nothing links to it", "x"u8, [0, 0, 0, 0, 0, 0, 0, 9, 1], [0], "counts 5 keys, the walk 6");

    [Fact]
    public void LinkWithoutABucketIsFound()
    {
        using var directory = Sound();
        using (var environment = LmdbEnvironment.Open(directory.Path, LmdbNative.MDB_NOTLS, 64 << 20, 64 << 20, 8))
        {
            using var transaction = environment.BeginWrite();
            Assert.True(transaction.TryOpenDatabase("x"u8, create: false, out var buckets));
            byte[] onlyRecord = [0, 0, 0, 0, 0, 0, 0, 1, .. LayoutTests.Filled((byte)'l', 89)];
            Assert.Equal(0, transaction.Delete(buckets, onlyRecord));
            Assert.Equal(0, transaction.Commit());
        }

        var findings = DiskVerifier.Verify(directory.Path).Findings;
        Assert.Equal(["bucket 1 is linked but does not exist", "the state record counts 5 keys, the walk 4"], findings);
    }

    [Fact]
    public void BucketLinkedTwiceIsFound() =>
        Finds("bucket 1 is linked twice", "d"u8, LayoutTests.Filled(1, 511), [0, 0, 0, 0, 0, 0, 0, 1]);

    [Fact]
    public void LinkToAnIdNeverGivenIsFound() =>
        Finds("leads to bucket 4, not between 0 and 4", "d"u8, LayoutTests.Filled(1, 511), [0, 0, 0, 0, 0, 0, 0, 4]);

    [Fact]
    public void LinkThatRunsBackIsFound() => Finds("leads to bucket 1, not between 1 and 4", "x"u8,
        [0, 0, 0, 0, 0, 0, 0, 1, .. LayoutTests.Filled(5, 503)], [0, 0, 0, 0, 0, 0, 0, 1]);

    [Fact]
    public void LinkWithAStrangeValueIsFound() =>
        Finds("has a value of 3 bytes", "d"u8, LayoutTests.Filled(1, 511), [0, 1, 2]);

    [Fact]
    public void UnknownTagIsFound() => Finds("key \"a\" has the unknown tag 0x77", "d"u8, "a"u8, [0x77, 1]);

    [Fact]
    public void ValueWithoutATagIsFound() => Finds("key \"a\" has no tag byte", "d"u8, "a"u8, []);

    [Fact]
    public void KeyTooMuchIsFound() => Finds("the state record counts 5 keys, the walk 6", "d"u8, "new"u8, [0]);

    [Fact]
    public void RecordWhereNoneMayBeIsFound()
    {
        Finds("reserved for later formats is not empty", "c"u8, "k"u8, [0]);
        Finds("reserved for later formats is not empty", "e"u8, "k"u8, [0]);
        Finds("sys holds an unknown record \"new\\x01\"", "sys"u8, "new\u0001"u8, [0]);
        Finds("too short for a bucket id", "x"u8, "short"u8, [0]);
    }

    [Fact]
    public void DamagedSystemRecordsAreFound()
    {
        Finds("the state record is absent or damaged", "sys"u8, "state"u8, [0]);
        Finds("no readable format record", "sys"u8, "format"u8, [0]);
    }

    [Fact]
    public void ShortenedFileIsFoundWithoutTouchingWhatIsMissing()
    {
        using var directory = Sound();
        using (var file = File.OpenWrite(Path.Combine(directory.Path, "data.mdb")))
        {
            file.SetLength(file.Length - 4096);
        }

        Assert.Contains("cut short", Assert.Single(DiskVerifier.Verify(directory.Path).Findings), StringComparison.Ordinal);
    }

    [Fact]
    public void AbsentAndForeignFilesAreFound()
    {
        using var directory = new DiskTestDirectory();
        var missing = Assert.Single(DiskVerifier.Verify(directory.Path).Findings);
        Assert.Contains("does not exist", missing, StringComparison.Ordinal);
        File.WriteAllBytes(Path.Combine(directory.Path, "data.mdb"), LayoutTests.Filled(1, 9000));
        var foreign = Assert.Single(DiskVerifier.Verify(directory.Path).Findings);
        Assert.Contains("not an LMDB file", foreign, StringComparison.Ordinal);
    }

    [Fact]
    public void FindingsAreListedUpToALimit()
    {
        using var directory = new DiskTestDirectory();
        using (var disk = DiskKeyspace.Open(directory.Path, Options))
        {
            using var writer = disk.BeginWrite();
            for (var i = 0; i < 300; i++)
            {
                writer.Put([1, (byte)(i >> 8), (byte)i], [0x99]);
            }

            writer.Commit();
        }

        var findings = DiskVerifier.Verify(directory.Path).Findings;
        Assert.Equal(DiskVerifyReport.FindingsMax, findings.Count);
        Assert.Equal("and more", findings[^1]);
    }

    /// <summary>Five keys: the empty one, a short one, and three long ones in three buckets (ids 1 to 3).</summary>
    private static DiskTestDirectory Sound()
    {
        var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        using var writer = disk.BeginWrite();
        writer.Put(""u8, "\0"u8);
        writer.Put("a"u8, "\0x"u8);
        writer.Put(LayoutTests.Filled((byte)'l', 600), "\0x"u8);
        writer.Put(LayoutTests.Filled((byte)'m', 700), "\0x"u8);
        writer.Put(LayoutTests.Filled((byte)'m', 1200), "\0x"u8);
        writer.SetState(new DiskState { AppliedIndex = 42, AppliedTerm = 3, Count = 5 });
        writer.Commit();
        return directory;
    }

    private static void Finds(string expected, ReadOnlySpan<byte> database, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value,
        string? alsoExpected = null)
    {
        using var directory = Sound();
        DiskKeyspaceTests.Raw(directory.Path, database, key, value);
        var findings = DiskVerifier.Verify(directory.Path).Findings;
        Assert.Contains(findings, finding => finding.Contains(expected, StringComparison.Ordinal));
        if (alsoExpected is not null)
        {
            Assert.Contains(findings, finding => finding.Contains(alsoExpected, StringComparison.Ordinal));
        }
    }
}
