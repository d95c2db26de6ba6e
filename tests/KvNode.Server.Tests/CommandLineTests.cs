using KvNode.Raft;
using KvNode.Server.Hosting;
using Microsoft.Extensions.Logging;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class CommandLineTests
{
    private static Invocation Parse(string arguments, params (string Name, string Value)[] environment) =>
        new CommandLine(name => Array.Find(environment, pair => pair.Name == name).Value)
            .Parse([.. arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(static word => word.Replace("''", "", StringComparison.Ordinal))]);

    private static NodeOptions Options(string arguments, params (string Name, string Value)[] environment) =>
        Assert.IsType<Invocation.RunNode>(Parse(arguments, environment)).Options;

    private static string Refusal(string arguments, params (string Name, string Value)[] environment) =>
        Assert.IsType<Invocation.Refuse>(Parse(arguments, environment)).Reason;

    [Fact]
    public void WithoutArgumentsTheDefaultsAreTheOriginals()
    {
        var options = Options("");
        Assert.Equal("127.0.0.1:4920", options.Listen.ToString());
        Assert.Equal("data", options.DataDirectory);
        Assert.Equal("data", options.LogDirectory);
        Assert.Equal(ReadLevel.Linearizable, options.Consistency);
        Assert.Equal(Durability.High, options.Durability);
        Assert.Equal(64 << 20, options.MaxValueBytes);
        Assert.Equal(10_000, options.MaxClients);
        Assert.Equal(0, options.IdleSeconds);
        Assert.Equal(300, options.KeepAliveSeconds);
        Assert.Equal(3, options.SnapshotsKeep);
        Assert.Equal(LogLevel.Information, options.LogLevel);
        Assert.Equal(LogFormat.Text, options.LogFormat);
    }

    [Theory]
    [InlineData("--addr 0.0.0.0:1 --data d")]
    [InlineData("-addr 0.0.0.0:1 -data d")]
    [InlineData("--addr=0.0.0.0:1 --data=d")]
    [InlineData("-addr=0.0.0.0:1 -data=d")]
    public void OneAndTwoDashesSpaceAndEqualsAreTheSame(string arguments)
    {
        var options = Options(arguments);
        Assert.Equal(new ListenAddress("0.0.0.0", 1), options.Listen);
        Assert.Equal("d", options.DataDirectory);
        Assert.Equal("d", options.LogDirectory);
    }

    [Theory]
    [InlineData("--cluster-secret ''", "--cluster-secret: it is empty; leave the flag out to go without")]
    [InlineData("--tls-ca ''", "--tls-ca: it is empty; leave the flag out to go without")]
    [InlineData("--cluster-secret short", "--cluster-secret needs at least 16 bytes")]
    [InlineData("--cluster-secret 0123456789abcdef --cluster-secret-file f", "only one of them")]
    [InlineData("--tls-cert c", "need each other")]
    [InlineData("--tls-cert c --tls-key k", "need each other")]
    [InlineData("--tls-ca a", "need each other")]
    public void SecuritySettingsThatCannotBeMeantAreRefused(string arguments, string reason) =>
        Assert.Contains(reason, Refusal(arguments), StringComparison.Ordinal);

    [Theory]
    [InlineData("--addr 127.0.0.1:7 --join 127.0.0.1:7")]
    [InlineData("--addr :7 --advertise Kv.test:7 --join kv.test:7")]
    [InlineData("--addr 127.0.0.1:7 --advertise kv.test:7 --join 127.0.0.1:7")]
    public void ANodeDoesNotJoinItself(string arguments) =>
        Assert.Contains("is this node's own address", Refusal(arguments), StringComparison.Ordinal);

    [Fact]
    public void AnotherPortOfTheSameHostMayBeJoined() =>
        Assert.Equal("127.0.0.1:8", Options("--addr 127.0.0.1:7 --join 127.0.0.1:8").Join);

    [Fact]
    public void AMissingFileOfTheSecuritySettingsIsNamedWithItsFlag()
    {
        using var directory = new KvNode.Testing.TempDirectory("security");
        var there = directory.Sub("there");
        File.WriteAllText(there, "");
        var whole = new SecurityOptions { CertificateFile = there, KeyFile = there, AuthorityFile = there };
        (string Flag, SecurityOptions Security)[] cases =
        [
            ("--cluster-secret-file", new SecurityOptions { SecretFile = "/nope" }),
            ("--tls-cert", whole with { CertificateFile = "/nope" }),
            ("--tls-key", whole with { KeyFile = "/nope" }),
            ("--tls-ca", whole with { AuthorityFile = "/nope/at/all" }),
        ];
        foreach (var (flag, security) in cases)
        {
            var failure = Failure.Of(Assert.ThrowsAny<IOException>(() => security.Load()));
            Assert.Equal(ExitCodes.NoInput, failure.ExitCode);
            Assert.StartsWith($"{flag}: there is no file '/nope", failure.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void SecuritySettingsComeFromFlagsAndVariables()
    {
        Assert.Equal(SecurityOptions.None, Options("").Security);
        Assert.True(Options("").Security.Load().LoopbackOnly);
        var options = Options("--tls-cert c --tls-key k --tls-ca a", ("KVNODE_CLUSTER_SECRET", "0123456789abcdef")).Security;
        Assert.Equal(("0123456789abcdef", "c", "k", "a"), (options.Secret, options.CertificateFile, options.KeyFile, options.AuthorityFile));
        _ = Assert.Throws<FileNotFoundException>(options.Load);
    }

    [Fact]
    public void SecretFileEndsWithOrWithoutALineEnd()
    {
        using var directory = new KvNode.Testing.TempDirectory("secret");
        var file = directory.Sub("secret");
        File.WriteAllText(file, "0123456789abcdef\r\n");
        var security = new SecurityOptions { SecretFile = file };
        Assert.Null(security.Problem());
        Assert.Equal("0123456789abcdef"u8, security.Load().Secret.Span);
        File.WriteAllText(file, "0123456789abcde\n");
        Assert.Contains("at least 16 bytes", Assert.Throws<SecurityFileException>(security.Load).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void LogDirectoryOfItsOwnIsKept() => Assert.Equal("logs", Options("--data d --log-dir logs").LogDirectory);

    [Fact]
    public void EmptyVariablesAndEmptyOptionalFlagsCountAsAbsent()
    {
        Assert.Equal("127.0.0.1:4920", Options("", ("KVNODE_ADDR", "")).Listen.ToString());
        var line = new CommandLine(static _ => null);
        var options = Assert.IsType<Invocation.RunNode>(line.Parse(["--join", "", "--log-dir", ""])).Options;
        Assert.Equal("data", options.LogDirectory);
    }

    [Fact]
    public void FlagWinsOverVariableAndVariableOverDefault()
    {
        (string, string)[] environment = [("KVNODE_ADDR", ":1"), ("KVNODE_DURABILITY", "low"), ("KVNODE_MAX_VALUE", "1mb")];
        var options = Options("--addr :2", environment);
        Assert.Equal(":2", options.Listen.ToString());
        Assert.Equal(Durability.Low, options.Durability);
        Assert.Equal(1 << 20, options.MaxValueBytes);
    }

    [Fact]
    public void WrongVariableIsAnErrorThatNamesItUnlessTheFlagOverridesIt()
    {
        Assert.Contains("KVNODE_DURABILITY", Refusal("", ("KVNODE_DURABILITY", "hgh")), StringComparison.Ordinal);
        Assert.Equal(Durability.High, Options("--durability high", ("KVNODE_DURABILITY", "hgh")).Durability);
    }

    [Fact]
    public void EverySettingIsReadFromItsVariable()
    {
        // One value per setting that is not its default; a setting without a row here fails.
        const string Others =
            "--addr :1 --data other --log-dir other --join a:1 --consistency low --durability low --max-value 1mb " +
            "--max-clients 7 --timeout 7 --tcp-keepalive 7 --query-buffer 100mb --client-output-buffer 100mb " +
            "--snapshots-keep 7 --write-buffer 7mb --wal-segment-size 7mb --log-level debug --log-format json " +
            "--parse-snapshot - --snapshot-format bitraft --advertise a:1 --follower try --leader-wait 7 --election-timeout 70 " +
            "--log-keep 7mb --cluster-secret 0123456789abcdef --cluster-secret-file f --tls-cert f --tls-key f --tls-ca f";
        var values = Others.Split(' ').Chunk(2).ToDictionary(static pair => pair[0], static pair => pair[1], StringComparer.Ordinal);
        foreach (var setting in new CommandLine(static _ => null).Settings)
        {
            // --snapshot-format says something only beside --parse-snapshot.
            var other = setting.Flag == "--snapshot-format" ? "--parse-snapshot x" : "";
            Assert.NotEqual(Parse(other), Parse(other, (setting.Variable, values[setting.Flag])));
            Assert.Equal(
                Parse($"{other} {setting.Flag} {values[setting.Flag]}"), Parse(other, (setting.Variable, values[setting.Flag])));
        }
    }

    [Theory]
    [InlineData("--addr x", "x")]
    [InlineData("--addr 1.2.3.4:65536", "65536")]
    [InlineData("--addr ::1:4920", "::1")]
    [InlineData("--addr [1.2.3.4]:1", "1.2.3.4")]
    [InlineData("--addr 1.2.3.4:+1", "+1")]
    [InlineData("--consistency hi", "low, medium, high")]
    [InlineData("--durability 1", "low, medium, high")]
    [InlineData("--max-value 513mb", "--max-value")]
    [InlineData("--max-value 0", "--max-value")]
    [InlineData("--max-value 1tb", "1tb")]
    [InlineData("--max-value mb", "mb")]
    [InlineData("--max-value -1", "-1")]
    [InlineData("--max-value 99999999999999999999", "--max-value")]
    [InlineData("--max-value 9223372036854775807gb", "--max-value")]
    [InlineData("--max-clients 0", "--max-clients")]
    [InlineData("--max-clients 1e3", "1e3")]
    [InlineData("--snapshots-keep 0", "--snapshots-keep")]
    [InlineData("--log-level loud", "--log-level")]
    [InlineData("--log-format xml", "--log-format")]
    [InlineData("--query-buffer 2mb", "--query-buffer")]
    [InlineData("--client-output-buffer 64mb", "--client-output-buffer")]
    [InlineData("--max-value 512mb --query-buffer 512mb", "--query-buffer")]
    [InlineData("--parse-snapshot x --snapshot-format zip", "zip")]
    [InlineData("--fastlog", "--fastlog")]
    [InlineData("-a", "-a")]
    [InlineData("stray", "stray")]
    [InlineData("@file", "@file")]
    [InlineData("--data", "--data")]
    [InlineData("--addr :1 --addr :2", "--addr")]
    [InlineData("check", "DIR")]
    [InlineData("check a b", "b")]
    [InlineData("--join :4920", ":4920")]
    [InlineData("--join waiting", "waiting")]
    [InlineData("--advertise :4920", ":4920")]
    [InlineData("--follower leader", "forward, try, moved")]
    [InlineData("--leader-wait -1", "--leader-wait")]
    [InlineData("--election-timeout 1", "--election-timeout")]
    [InlineData("--log-keep 1mb", "--log-keep")]
    public void WrongArgumentsAreRefusedAndNamed(string arguments, string named) =>
        Assert.Contains(named, Refusal(arguments), StringComparison.Ordinal);

    [Fact]
    public void EmptyDataDirectoryIsRefused()
    {
        var refusal = Assert.IsType<Invocation.Refuse>(new CommandLine(static _ => null).Parse(["--data", ""]));
        Assert.Contains("--data", refusal.Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", null)]
    [InlineData("--join 127.0.0.1:4921", "127.0.0.1:4921")]
    [InlineData("--join node-1.example:1", "node-1.example:1")]
    [InlineData("--join wait", "wait")]
    public void JoinIsAMemberOrToWaitToBeAdded(string arguments, string? join) => Assert.Equal(join, Options(arguments).Join);

    [Theory]
    [InlineData("--addr 10.0.0.1:1", "10.0.0.1:1")]
    [InlineData("--addr 10.0.0.1:1 --advertise node:2", "node:2")]
    [InlineData("--addr :1 --advertise node:2", "node:2")]
    public void OthersAreToldTheAdvertisedAddress(string arguments, string advertised) =>
        Assert.Equal(advertised, Options(arguments).Advertise);

    [Theory]
    [InlineData("forward", FollowerReply.Forward)]
    [InlineData("TRY", FollowerReply.Try)]
    [InlineData("moved", FollowerReply.Moved)]
    public void FollowersForwardOrSayWhoLeads(string word, object reply) =>
        Assert.Equal(reply, Options($"--follower {word}").Follower);

    [Fact]
    public void RecoveryMustBeForcedInWords()
    {
        Assert.Contains("--force-new-cluster", Refusal("recover"), StringComparison.Ordinal);
        Assert.Equal(new Invocation.Recover("data", "data", "127.0.0.1:4920"), Parse("recover --force-new-cluster"));
        Assert.Equal(
            new Invocation.Recover("d", "l", "h:1"),
            Parse("recover --force-new-cluster --data d --log-dir l --advertise h:1"));
        Assert.Contains("stray", Refusal("recover --force-new-cluster stray"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("med", ReadLevel.LeaderLease)]
    [InlineData("MEDIUM", ReadLevel.LeaderLease)]
    [InlineData("Low", ReadLevel.Local)]
    [InlineData("high", ReadLevel.Linearizable)]
    public void LevelsAreReadAsInTheOriginal(string word, ReadLevel level) =>
        Assert.Equal(level, Options($"--consistency {word}").Consistency);

    [Theory]
    [InlineData("1048576", 1_048_576)]
    [InlineData("1mb", 1_048_576)]
    [InlineData("1MiB", 1_048_576)]
    [InlineData("1m", 1_000_000)]
    [InlineData("2kb", 2_048)]
    [InlineData("2k", 2_000)]
    [InlineData("512MB", 536_870_912)]
    public void SizesAreReadAsRedisReadsThem(string text, int bytes) =>
        Assert.Equal(bytes, Options($"--max-value {text}").MaxValueBytes);

    [Fact]
    public void BuffersNobodySetGrowWithTheLargestValue()
    {
        var options = Options("--max-value 512mb");
        Assert.Equal(513 << 20, options.QueryBufferBytes);
        Assert.Equal(513 << 20, options.OutputBufferBytes);
        Assert.Equal(Limits.QueryBufferBytes.Default, Options("--max-value 1mb").QueryBufferBytes);
    }

    [Fact]
    public void SnapshotFileMayBeStandardInput()
    {
        var parse = Assert.IsType<Invocation.ParseSnapshot>(Parse("--parse-snapshot - --snapshot-format bitraft"));
        Assert.Equal("-", parse.File);
        Assert.Equal(SnapshotDialect.Bitraft, parse.Dialect);
    }

    [Fact]
    public void CheckTakesADirectoryAndMayTakeALogDirectory()
    {
        Assert.Equal(new Invocation.Check("d", "d"), Parse("check d"));
        Assert.Equal(new Invocation.Check("d", "l"), Parse("check d --log-dir l"));
        Assert.Equal(new Invocation.Check("d", "l"), Parse("check -log-dir=l d"));
    }

    [Theory]
    [InlineData("--help")]
    [InlineData("-help")]
    [InlineData("-h")]
    [InlineData("--help --nonsense")]
    [InlineData("check --help")]
    public void HelpNamesEverySettingItsVariableItsDefaultAndEveryExitCode(string arguments)
    {
        var help = Assert.IsType<Invocation.Say>(Parse(arguments)).Text;
        foreach (var setting in new CommandLine(static _ => null).Settings)
        {
            Assert.Contains($"  {setting.Flag} {setting.Value}", help, StringComparison.Ordinal);
            Assert.Contains($"[{setting.Variable}]", help, StringComparison.Ordinal);
            Assert.Contains(setting.Default, help, StringComparison.Ordinal);
        }

        foreach (var (code, meaning) in ExitCodes.Table)
        {
            Assert.Contains($"{code}", help, StringComparison.Ordinal);
            Assert.Contains(meaning, help, StringComparison.Ordinal);
        }

        Assert.DoesNotContain(help.Split('\n'), static line => line.Length > 120);
    }

    [Fact]
    public void VersionIsOneLine()
    {
        var text = Assert.IsType<Invocation.Say>(Parse("--version")).Text;
        Assert.Matches(@"^kvnode \d+\.\d+\.\d+\n$", text);
    }

    [Theory]
    [InlineData(":4920", "", 4920)]
    [InlineData("[::1]:0", "::1", 0)]
    [InlineData("[::]:4920", "::", 4920)]
    [InlineData("node-1.example:65535", "node-1.example", 65535)]
    public void AddressesKeepTheirForm(string text, string host, int port)
    {
        Assert.Null(ListenAddress.TryParse(text, out var address));
        Assert.Equal(new ListenAddress(host, port), address);
        Assert.Equal(text, address.ToString());
    }

    [Fact]
    public async Task EveryAddressAndLocalhostResolve()
    {
        Assert.Equal(7, (await new ListenAddress("", 7).ResolveAsync()).Port);
        Assert.Equal("127.0.0.1:7", (await new ListenAddress("localhost", 7).ResolveAsync()).ToString());
        Assert.Equal("[::1]:7", (await new ListenAddress("::1", 7).ResolveAsync()).ToString());
    }

    [Fact]
    public void LimitsHoldAmongThemselves() => Limits.Check();
}
