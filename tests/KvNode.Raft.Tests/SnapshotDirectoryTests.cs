using System.Text;
using KvNode.Native;
using KvNode.Raft.Snapshots;
using Xunit;
using static KvNode.Raft.Tests.SnapshotSupport;
using SaveStep = KvNode.Raft.Snapshots.SnapshotDirectory.SaveStep;

namespace KvNode.Raft.Tests;

public sealed class SnapshotDirectoryTests : IDisposable
{
    private const long Now = 1_700_000_000_000;

    private readonly string _base = Directory.CreateTempSubdirectory("kvnode-snapshots-").FullName;
    private readonly StandingClock _clock = new(Now);

    private string Root => Path.Combine(_base, "snapshots");

    public static TheoryData<int> Steps
    {
        get
        {
            var steps = new TheoryData<int>();
            foreach (var step in Enum.GetValues<SaveStep>())
            {
                steps.Add((int)step);
            }

            return steps;
        }
    }

    public void Dispose() => Directory.Delete(_base, recursive: true);

    [Fact]
    public void ASavedSnapshotIsListedVerifiedAndReadBack()
    {
        var state = RandomBytes(1, 3_000_000);
        var directory = Open();
        var saved = directory.Save(new BytesSnapshot(state, new EntryId(2, 10), "a:1", "b:2"));

        Assert.Equal($"2-10-{Now}", saved.Id);
        Assert.Equal(new EntryId(2, 10), saved.Position);
        Assert.Equal(state.Length, saved.Size);
        Assert.Equal(42, saved.Count);
        AssertSame(saved, Assert.Single(Open().List()));
        Assert.Equal(state, File.ReadAllBytes(directory.StatePath(saved.Id)));
        Assert.Null(SnapshotDirectory.Verify(Root, saved.Id).Problem);
        Assert.Equal(["meta.json", "state.bin"], Names(Path.Combine(Root, saved.Id)));
    }

    [Fact]
    public void TheNewestThreeStay()
    {
        var directory = Open();
        for (ulong index = 1; index <= 5; index++)
        {
            _clock.UnixMs++;
            _ = Save(directory, index);
        }

        Assert.Equal([5UL, 4UL, 3UL], directory.List().Select(info => info.Position.Index));
        Assert.Equal([$"1-3-{Now + 3}", $"1-4-{Now + 4}", $"1-5-{Now + 5}"], Names(Root));
    }

    [Fact]
    public void NamesNeverCollideWithinOneMillisecondNorWhenTheClockGoesBack()
    {
        var directory = Open();
        var first = Save(directory, 7);
        var second = Save(directory, 7);
        _clock.UnixMs = 5;
        var third = Save(Open(), 7);

        Assert.Equal([third.Id, second.Id, first.Id], directory.List().Select(info => info.Id));
        Assert.Equal([Now, Now + 1, Now + 2], [first.UnixMs, second.UnixMs, third.UnixMs]);
    }

    [Fact]
    public void TheOneJustSavedIsNeverRemovedEvenWhenOthersLookNewer()
    {
        var directory = Open(keep: 1);
        _ = Save(directory, 100);
        var saved = Save(directory, 3);
        Assert.Equal([saved.Id], Names(Root));
    }

    [Fact]
    public void DamagedSnapshotsDoNotCountAndStayForAPersonToSee()
    {
        var directory = Open(keep: 2);
        var first = Save(directory, 1);
        var second = Save(directory, 2);
        using (var file = File.OpenWrite(directory.StatePath(second.Id)))
        {
            file.SetLength(5);
        }

        var third = Save(directory, 3);
        Assert.Equal([third.Id, first.Id], directory.List().Select(info => info.Id));
        Assert.Equal([first.Id, second.Id, third.Id], Names(Root));
    }

    [Fact]
    public void SnapshotsOfTheOriginalAreListedVerifiedAndNeverRemoved()
    {
        var path = Path.Combine(Root, "2-10-1489000000000");
        _ = Directory.CreateDirectory(path);
        File.WriteAllText(Path.Combine(path, "state.bin"), "123456789");
        File.WriteAllText(
            Path.Combine(path, "meta.json"),
            ("{'ID':'2-10-1489000000000','Index':10,'Term':2,'Peers':'ka4xMjcuMC4wLjE6NDkyMA==',"
            + "'Size':9,'CRC':'mV3Ju98ZOfo='}\n").Replace('\'', '"'));
        var directory = Open(keep: 1);
        _ = Save(directory, 1);
        _ = Save(directory, 2);

        Assert.Equal([10UL, 2UL], directory.List().Select(info => info.Position.Index));
        Assert.All(SnapshotDirectory.VerifyAll(Root), check => Assert.Null(check.Problem));
    }

    [Fact]
    public void LeftoversGoAtTheNextStartAndNothingElse()
    {
        _ = Save(Open(), 1);
        _ = Directory.CreateDirectory(Path.Combine(Root, "1-2-3.tmp", "deeper"));
        File.WriteAllText(Path.Combine(Root, "1-2-3.tmp", "state.bin"), "half");
        _ = Directory.CreateDirectory(Path.Combine(Root, "notes"));
        File.WriteAllText(Path.Combine(Root, "file.tmp"), "not ours");

        // Looking changes nothing: `check` may run beside a person's copy.
        Assert.Equal([$"1-1-{Now}", "notes"], SnapshotDirectory.VerifyAll(Root).Select(check => check.Id));
        Assert.Contains("1-2-3.tmp", Names(Root));

        _ = Open();
        Assert.Equal([$"1-1-{Now}", "file.tmp", "notes"], Names(Root));
    }

    [Fact]
    public void ARootThatIsNotThereIsEmpty()
    {
        Assert.Empty(SnapshotDirectory.VerifyAll(Path.Combine(_base, "nowhere")));
        Assert.NotNull(SnapshotDirectory.Verify(Root, "1-1-1").Problem);
    }

    [Fact]
    public void VerifyNoticesEveryFlippedBitAndEveryCut()
    {
        var directory = Open();
        var info = directory.Save(new BytesSnapshot(RandomBytes(2, 60), new EntryId(1, 1), "a:1"));
        foreach (var name in new[] { "state.bin", "meta.json" })
        {
            var path = Path.Combine(Root, info.Id, name);
            var bytes = File.ReadAllBytes(path);
            for (var bit = 0; bit < bytes.Length * 8; bit++)
            {
                var copy = bytes.ToArray();
                copy[bit / 8] ^= (byte)(1 << (bit % 8));
                File.WriteAllBytes(path, copy);
                Assert.True(SnapshotDirectory.Verify(Root, info.Id).Problem is not null, $"{name} bit {bit}");
            }

            File.WriteAllBytes(path, bytes);
        }
    }

    [Fact]
    public void ASnapshotCutAnywhereIsPassedOverForTheOneBefore()
    {
        var directory = Open();
        var before = Save(directory, 1);
        var last = Save(directory, 2);
        foreach (var name in new[] { "state.bin", "meta.json" })
        {
            var path = Path.Combine(Root, last.Id, name);
            var bytes = File.ReadAllBytes(path);
            for (var length = 0; length < bytes.Length; length++)
            {
                File.WriteAllBytes(path, bytes[..length]);
                Assert.Equal([before.Id], Open().List().Select(info => info.Id));
                Assert.NotNull(SnapshotDirectory.Verify(Root, last.Id).Problem);
            }

            File.Delete(path);
            Assert.Equal([before.Id], Open().List().Select(info => info.Id));
            File.WriteAllBytes(path, bytes);
        }

        Assert.Equal(2, Open().List().Count);
    }

    [Fact]
    public void ASnapshotUnderAnothersNameIsRefused()
    {
        var saved = Save(Open(), 1);
        Directory.Move(Path.Combine(Root, saved.Id), Path.Combine(Root, "1-2-3"));
        Assert.Contains(saved.Id, SnapshotDirectory.Verify(Root, "1-2-3").Problem);
        Assert.Empty(Open().List());
    }

    /// <summary>The machine stops before a step: what is on disk then must start, and list only whole
    /// snapshots.</summary>
    [Theory]
    [MemberData(nameof(Steps))]
    public void ACrashBeforeAnyStepLeavesOnlyWholeSnapshots(int stepNumber)
    {
        var step = (SaveStep)stepNumber;
        var image = Path.Combine(_base, "image");
        var directory = Open(keep: 1);
        var old = Save(directory, 1);
        directory.Failpoint = at =>
        {
            if (at == step)
            {
                CopyTree(Root, image);
            }
        };
        _clock.UnixMs++;
        var saved = Save(directory, 2);

        var survivor = new SnapshotDirectory(image, 1, _clock);
        string[] expected = step <= SaveStep.Rename ? [old.Id] : step < SaveStep.Done ? [old.Id, saved.Id] : [saved.Id];
        Assert.Equal(expected, Names(image));
        Assert.Equal(expected.Reverse(), survivor.List().Select(info => info.Id));
        Assert.All(SnapshotDirectory.VerifyAll(image), check => Assert.Null(check.Problem));

        // And it goes on from there.
        var next = Save(survivor, 3);
        Assert.Equal([next.Id], Names(image));
    }

    [Theory]
    [MemberData(nameof(Steps))]
    public void AFailureAtAnyStepLeavesNothingHalf(int stepNumber)
    {
        var step = (SaveStep)stepNumber;
        var directory = Open();
        var old = Save(directory, 1);
        directory.Failpoint = at => ThrowAt(step, at, new IOException("injected"));
        Assert.Equal("injected", Assert.Throws<IOException>(() => Save(directory, 2)).Message);

        string[] expected = step <= SaveStep.Rename ? [old.Id] : [old.Id, $"1-2-{Now + 1}"];
        Assert.Equal(expected, Names(Root));
        Assert.All(SnapshotDirectory.VerifyAll(Root), check => Assert.Null(check.Problem));

        directory.Failpoint = null;
        _ = Save(directory, 3);
    }

    [Theory]
    [InlineData(28, SaveStep.MakeDirectory)]
    [InlineData(28, SaveStep.SyncState)]
    [InlineData(28, SaveStep.WriteMeta)]
    [InlineData(122, SaveStep.WriteState)]
    public void AFullDiskIsSaidClearlyAndCleanedUp(int code, object step)
    {
        var directory = Open();
        directory.Failpoint = at => ThrowAt((SaveStep)step, at, new IOException("no space", code));
        var error = Assert.Throws<IOException>(() => Save(directory, 2));
        Assert.Contains("no space left in", error.Message);
        Assert.Contains(Root, error.Message);
        Assert.Empty(Names(Root));
    }

    [Theory]
    [InlineData(SaveStep.SyncState)]
    [InlineData(SaveStep.SyncMeta)]
    [InlineData(SaveStep.SyncDirectory)]
    [InlineData(SaveStep.SyncRoot)]
    public void AFailedSyncPassesUpAsItIs(object step)
    {
        var directory = Open();
        var failure = new SyncFailedException("fsync", "somewhere", 28);
        directory.Failpoint = at => ThrowAt((SaveStep)step, at, failure);
        Assert.Same(failure, Assert.Throws<SyncFailedException>(() => Save(directory, 2)));
        Assert.DoesNotContain(Names(Root), name => name.EndsWith(".tmp", StringComparison.Ordinal));
    }

    [Fact]
    public void AnErrorOfTheReaderPassesUpAndLeavesNothing()
    {
        var failure = new InvalidOperationException("keys out of order");
        var reader = new BytesSnapshot(RandomBytes(3, 5000), new EntryId(1, 1)) { Failure = failure };
        Assert.Same(failure, Assert.Throws<InvalidOperationException>(() => Open().Save(reader)));
        Assert.Empty(Names(Root));
    }

    [Fact]
    public void SavesFromManyThreadsAllSucceed()
    {
        var directory = Open(keep: 100);
        Parallel.For(0, 8, i => directory.Save(new BytesSnapshot(RandomBytes(i, 10_000), new EntryId(1, 5))));
        Assert.Equal(8, directory.List().Count);
        Assert.All(SnapshotDirectory.VerifyAll(Root), check => Assert.Null(check.Problem));
    }

    [Fact]
    public void KeepingNoneIsRefused() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => new SnapshotDirectory(Root, 0));

    private static void ThrowAt(SaveStep wanted, SaveStep at, Exception failure)
    {
        if (at == wanted)
        {
            throw failure;
        }
    }

    private static SnapshotInfo Save(SnapshotDirectory directory, ulong index) =>
        directory.Save(new BytesSnapshot(Encoding.ASCII.GetBytes($"state {index}"), new EntryId(1, index), "a:1"));

    private static IEnumerable<string> Names(string path) => Directory.GetFileSystemEntries(path)
        .Select(entry => Path.GetFileName(entry)!).Order(StringComparer.Ordinal);

    private SnapshotDirectory Open(int keep = 3) => new(Root, keep, _clock);
}
