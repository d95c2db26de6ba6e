using KvNode.Server.Commands;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandSyntaxTests
{
    // Printed as name:type, a token in front, ? optional, + repeated, parts in parentheses.
    [Theory]
    [InlineData("", "", 0, false)]
    [InlineData("key", "key:key", 1, false)]
    [InlineData("key value", "key:key value:string", 2, false)]
    [InlineData("key [key ...]", "key:key+", 1, true)]
    [InlineData("key value [key value ...]", "key_value:block+(key:key value:string)", 2, true)]
    [InlineData("needle key [key ...]", "needle:string key:key+", 2, true)]
    [InlineData("[message]", "message:string?", 0, true)]
    [InlineData("[section [section ...]]", "section:string?+", 0, true)]
    [InlineData("index", "index:integer", 1, false)]
    [InlineData("[NX | XX] [GET]", "nx_xx:oneof?(NX nx:pure-token XX xx:pure-token) GET get:pure-token?", 0, true)]
    [InlineData("<ON | OFF>", "on_off:oneof(ON on:pure-token OFF off:pure-token)", 1, false)]
    [InlineData("[DESC]", "DESC desc:pure-token?", 0, true)]
    [InlineData("pattern [LIMIT count]", "pattern:pattern LIMIT count:integer?", 1, true)]
    [InlineData("<A one | B two three>",
        "one_two_three:oneof(A one:string B two_three:block(two:string three:string))", 2, true)]
    [InlineData(
        "[protover [AUTH username password] [SETNAME clientname]]",
        "protover_username_password_clientname:block?(protover:integer AUTH username_password:block?(username:string "
        + "password:string) SETNAME clientname:string?)",
        0,
        true)]
    [InlineData(
        "[TYPE <NORMAL | MASTER>] [ID client-id [client-id ...]]",
        "TYPE normal_master:oneof?(NORMAL normal:pure-token MASTER master:pure-token) "
        + "ID client-id:block?(client-id:integer+)",
        0,
        true)]
    [InlineData(
        "[FILTERBY <MODULE module-name | PATTERN pattern>]",
        "FILTERBY module-name_pattern:oneof?(MODULE module-name:string PATTERN pattern:pattern)",
        0,
        true)]
    public void ASyntaxBecomesTheTreeOfCommandDocs(string syntax, string tree, int wordsMin, bool variable)
    {
        var arguments = CommandSyntax.Parse(syntax, hasKeys: true);
        Assert.Equal(tree, Print(arguments));
        Assert.Equal((wordsMin, variable), CommandSyntax.Measure(arguments));
    }

    [Fact]
    public void AKeyOfACommandWithoutKeySpecificationIsAString() =>
        Assert.Equal("key:string", Print(CommandSyntax.Parse("key", hasKeys: false)));

    [Theory]
    [InlineData("[key")]
    [InlineData("key]")]
    [InlineData("<ON | OFF")]
    [InlineData("[]")]
    [InlineData("[|]")]
    [InlineData("key | value")]
    [InlineData("NX")]
    [InlineData("key [value ...]")]
    [InlineData("[key ...]")]
    [InlineData("key value [value key ...]")]
    [InlineData("[")]
    [InlineData("...")]
    public void WhatIsNoSyntaxIsRefused(string syntax) =>
        Assert.Throws<FormatException>(() => CommandSyntax.Parse(syntax, hasKeys: true));

    private static string Print(CommandArgument[] arguments) => string.Join(' ', arguments.Select(argument =>
        (argument.Token.Length > 0 ? argument.Token + " " : "") + argument.Name + ":" + argument.Type
        + (argument.Optional ? "?" : "") + (argument.Multiple ? "+" : "")
        + (argument.Arguments.Length > 0 ? $"({Print(argument.Arguments)})" : "")));
}
