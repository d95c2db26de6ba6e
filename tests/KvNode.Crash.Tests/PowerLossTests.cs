using KvNode.Testing;

namespace KvNode.Crash.Tests;

/// <summary>
/// Power failures: a node runs under a journal of everything it does to its files; from the journal come the disks a
/// power failure could have left, and a node must start on each with every write answered before the cut.
/// </summary>
public sealed class PowerLossTests : IDisposable
{
    private const int Writers = 5;

    private readonly TempDirectory _directory = new("powerloss");

    private string Data => _directory.Sub("data");

    private string JournalPath => _directory.Sub("journal");

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void JournalRebuildsTheDirectoryExactly()
    {
        Seeds.Run(nameof(JournalRebuildsTheDirectoryExactly), random =>
        {
            _ = RunUnderJournal("high", random, answers: 6000, clean: true);
            var image = new CrashImage(PowerLossJournal.Read(JournalPath));
            var rebuilt = _directory.Sub("rebuilt");
            image.Build(rebuilt, int.MaxValue, LossMode.NothingLost, random);
            Assert.Equal(Listing(Data), Listing(rebuilt));
        });
    }

    [Fact]
    public void EveryAnsweredWriteSurvivesPowerLoss() => LosePower("high", images: 32, everyAnswer: true);

    /// <summary>Nothing has been answered yet, and nobody wants to be told that the store is damaged.</summary>
    [Fact]
    public void PowerLossDuringTheFirstStartLeavesADirectoryToStartIn()
    {
        Seeds.Run(nameof(PowerLossDuringTheFirstStartLeavesADirectoryToStartIn), random =>
        {
            _ = RunUnderJournal("high", random, answers: 0, clean: false);
            var journal = PowerLossJournal.Read(JournalPath);
            var image = new CrashImage(journal);
            // The store's files are made within the first records: each moment twice, then some of the later ones.
            int[] cuts =
            [
                .. Enumerable.Range(1, 18), .. Enumerable.Range(5, 14),
                .. Enumerable.Range(0, 8).Select(_ => random.Next(18, journal.Records.Count)),
            ];
            foreach (var (i, cut) in cuts.Index())
            {
                var place = _directory.Sub($"first{i}");
                image.Build(place, cut, LossMode.Sectors, new Random(random.Next()));
                OrKeep(place, $"cut {cut} of {journal.Records.Count}", () => CheckStarts(place));
            }
        });
    }

    [Theory]
    [InlineData("medium")]
    [InlineData("low")]
    public void WithLaxDurabilityPowerLossLeavesWholeWritesInOrder(string durability) =>
        LosePower(durability, images: 8, everyAnswer: false);

    /// <summary>The harness itself: a node that answers before it syncs must be caught.</summary>
    [Fact]
    public void NodeThatAnswersBeforeItSyncsIsCaught()
    {
        Seeds.Run(nameof(NodeThatAnswersBeforeItSyncsIsCaught), random =>
        {
            var load = RunUnderJournal("low", random, answers: 4000, clean: false);
            var journal = PowerLossJournal.Read(JournalPath);
            var image = new CrashImage(journal);
            // Now and then such a node syncs too, and just then nothing is lost; at one of these moments something is.
            var caught = Enumerable.Range(1, 12).Any(part =>
            {
                var cut = journal.Records.Count * part / 12;
                var place = _directory.Sub($"image{part}");
                image.Build(place, cut, LossMode.AllLost, random);
                var answers = image.AnswersAt(cut, Writers);
                using var node = NodeProcess.Start(Options(place, "high"));
                return Record.Exception(() => load.Verify(node.Port, writer => answers[writer], restart: false))
                    is HistoryViolationException;
            });
            Assert.True(caught, "twelve power failures of a node that does not sync lost nothing");
        });
    }

    private void LosePower(string durability, int images, bool everyAnswer)
    {
        Seeds.Run($"power loss with durability {durability}", random =>
        {
            var load = RunUnderJournal(durability, random, answers: 15_000, clean: false);
            var journal = PowerLossJournal.Read(JournalPath);
            var image = new CrashImage(journal);
            var cuts = InterestingCuts(journal);
            var clock = System.Diagnostics.Stopwatch.StartNew();
            for (var i = 0; i < images || (Soak.IsOn && clock.Elapsed < Soak.Time(TimeSpan.Zero)); i++)
            {
                var cut = random.Next(2) == 0 ? random.Next(journal.Records.Count) : cuts[random.Next(cuts.Count)];
                var mode = (LossMode)(i % 4);
                var place = _directory.Sub($"image{i}");
                image.Build(place, cut, mode, new Random(random.Next()));
                var answers = everyAnswer ? image.AnswersAt(cut, Writers) : new int[Writers];
                OrKeep(place, $"cut {cut} of {journal.Records.Count}, {mode}", () => CheckImage(place, durability, load, answers));
            }
        });
    }

    /// <summary>Removes the image after its check; keeps it when the check fails, and says where.</summary>
    private void OrKeep(string place, string what, Action check)
    {
        try
        {
            check();
        }
        catch (Exception failure)
        {
            var kept = $"{Path.TrimEndingDirectorySeparator(_directory.Path)}-{Path.GetFileName(place)}";
            Directory.Move(place, kept);
            throw new HistoryViolationException($"{what}, kept in {kept}: {failure.Message}");
        }

        Directory.Delete(place, recursive: true);
    }

    /// <summary>Runs a node with flushes, segment changes, snapshots and log shrinking, then ends it.</summary>
    private WriteLoad RunUnderJournal(string durability, Random random, int answers, bool clean)
    {
        Directory.CreateDirectory(Data);
        using var notes = Posix.OpenAppend(JournalPath);
        var load = new WriteLoad(Writers, random)
        {
            ValueBytesMax = 600,
            AfterAnswer = (writer, count) => PowerLossJournal.NoteAnswer(notes, writer, count),
        };
        using var node = NodeProcess.Start(Options(Data, durability) with
        {
            Environment = new Dictionary<string, string>(StringComparer.Ordinal)
            {
                ["LD_PRELOAD"] = Shim.PowerLoss,
                ["POWERLOSS_DIR"] = Data,
                ["POWERLOSS_JOURNAL"] = JournalPath,
            },
        });
        using var admin = node.Connect(TimeSpan.FromSeconds(60));
        load.Start(node.Port);
        for (var step = 0; load.Answered < answers; step++)
        {
            Waiting.ForAnswers(load, answers / 12, node);
            Assert.False(admin.Call(step % 2 == 0 ? "RAFTSNAPSHOT" : "RAFTSHRINKLOG").IsError);
        }

        if (clean)
        {
            load.Stop();
            Assert.Equal(ExitCodes.Success, node.Terminate());
        }
        else
        {
            // The journal must end with a whole record.
            node.FreezeAndKill9();
            load.Join();
        }

        return load;
    }

    private static void CheckStarts(string place)
    {
        using var node = NodeProcess.Start(Options(place, "high"));
        using var client = node.Connect();
        Assert.Equal("+OK", client.Text("SET", "first", "one"));
        Assert.Equal(ExitCodes.Success, node.Terminate());
    }

    private static void CheckImage(string place, string durability, WriteLoad load, int[] answers)
    {
        Assert.DoesNotContain("corrupt", RunCheck(place), StringComparison.OrdinalIgnoreCase);
        using var node = new NodeSlot(NodeProcess.Start(Options(place, durability)));
        _ = load.Verify(node.Current.Port, writer => answers[writer], restart: false);

        // The node works on: it writes, flushes what it recovered, and finds all of it again.
        using (var client = node.Current.Connect())
        {
            Assert.Equal("+OK", client.Text("SET", "after:power", "back"));
            Assert.Equal("+OK", client.Text("RAFTSHRINKLOG"));
            Assert.Equal(":1", client.Text("DEL", "after:power"));
        }

        node.Current.Kill9();
        node.Replace(node.Current.Restart());
        _ = load.Verify(node.Current.Port, writer => answers[writer], restart: false);
    }

    /// <summary>What <c>kvnode check</c> says of the image; an image without a store yet has nothing to check.</summary>
    private static string RunCheck(string place)
    {
        var result = Tool.Run(Repository.NodeBinary, ["check", place]);
        Assert.True(
            result.ExitCode is ExitCodes.Success or ExitCodes.NoInput,
            $"check ended with {result.ExitCode}: {result.Errors}{result.Text}");
        return result.Text + result.Errors;
    }

    private static NodeOptions Options(string data, string durability) => new()
    {
        DataDirectory = data,
        Arguments = ["--durability", durability, "--wal-segment-size", "1mb", "--write-buffer", "1mb"],
    };

    /// <summary>Around syncs and names: where a missing sync would show.</summary>
    private static List<int> InterestingCuts(PowerLossJournal journal)
    {
        var cuts = new List<int>();
        for (var i = 0; i < journal.Records.Count; i++)
        {
            var kind = journal.Records[i].Kind;
            var ofNames = kind is JournalKind.Create or JournalKind.Rename or JournalKind.Unlink or JournalKind.Link;
            var repeat = ofNames ? 40 : kind is JournalKind.SyncEnd ? 1 : 0;
            for (; repeat > 0; repeat--)
            {
                cuts.Add(Math.Min(journal.Records.Count, i + 1 + (repeat % 4)));
            }
        }

        return cuts;
    }

    /// <summary>Names, sizes and contents; LMDB's lock file is a memory mapping and not on the disk.</summary>
    private static string[] Listing(string root) =>
        [.. Directory.EnumerateFiles(root, "*", SearchOption.AllDirectories)
            .Where(static path => !path.EndsWith("lock.mdb", StringComparison.Ordinal))
            .Order(StringComparer.Ordinal)
            .Select(path => $"{Path.GetRelativePath(root, path)} {new FileInfo(path).Length} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(path)))}")];
}
